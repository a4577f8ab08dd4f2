"""A run: recipe, stage graph, pipeline, folder, status, verification.

* `artifacts`: artifacts_of, golden_pixels, open_local_runner
* `execution`: Request, run_stages
* `folder`: RunFolder
* `model_check`: check_models, check_models_of
* `options`: AblationOptions, LoadOptions, ServeOptions
* `pipeline`
* `preflight`: check_needs, check_stage
* `recipe`: Recipe, load_recipe, recipe_keys, recipe_text, shipped_recipes
* `recipe_keys`: Near, nearest_key
* `recipe_reference`: CORE, ENVIRONMENT, reference
* `saved_recipe`: RunRecipe
* `section_advice`: advising, in_section
* `stage_graph`: Builder, Built, Context, Graph, Stage
* `status`: RunState, StageState, State, read_run_state, stale_note
"""
