from __future__ import annotations

from stillroom.report.load_section import cores_of


def test_who_ran_on_which_cores_is_said() -> None:
    one = {"service_process": {"pinned_cores": [0, 1, 2]}, "generators": [{"cores": [3]}]}
    assert cores_of(one) == "3 cores for the service, 1 core for the generator"
    for load in (
        {},
        {"service_process": None},
        {"service_process": {"pinned_cores": []}, "generators": []},
    ):
        assert cores_of(load) == "shared by the service and the generator"
