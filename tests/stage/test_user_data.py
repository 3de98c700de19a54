"""What user data means on the stage."""

from chaosgrade.stage.user_data import UserData, read


def test_exports_and_the_program_are_read() -> None:
    """Quotes as in a shell, several on a line, the last one counts; the rest is not run."""
    script = """#!/bin/sh
    # export COMMENT=1
    sleep 60
    export A=1 B='two words' C="x=y"
    export A=3
    export EXPANDED=$HOME NOT_ASSIGNED
    exec /opt/shop/worker --quiet
    """
    expected = {"A": "3", "B": "two words", "C": "x=y", "EXPANDED": "$HOME"}
    assert read(script) == UserData(expected, "worker")


def test_what_is_no_such_script_says_nothing() -> None:
    """Neither nothing, nor cloud-init's YAML, nor a quote that is left open."""
    for script in ("", "#cloud-config\npackages: [httpd]", "export A='1"):
        assert read(script) == UserData()


def test_what_systemd_is_to_look_after_is_restarted() -> None:
    """Its own properties are read, and no others; what never is restarted says so."""
    run = "exec systemd-run"
    program = "/opt/shop/quote --fast"
    assert read(f"{run} -p Restart=always -p RestartSec=30 {program}") == UserData(
        {}, "quote", restart_s=30.0
    )
    assert read(f"{run} --property=Restart=always {program}").restart_s == 0.1
    assert read(f"{run} --unit=quote -p Restart=no {program}") == UserData({}, "quote")
    assert read(f"{run} -p Restart=always -p RestartSec=soon {program}").restart_s is None
    assert read(run) == UserData()
