"""Commands around a service: build, predict, load test, admin.

* `admin`: admin_app
* `build`: build, build_bento
* `loadtest`: loadtest_app
* `predict`: is_url, predict, predict_images
* `run_loadtest`: compare_results, loadtest_target, new_folder
* `serve`: serve
"""
