"""The folder of the local stack."""

from __future__ import annotations

from stat import S_IMODE

from tapeline.local.home import Home


def test_only_its_owner_may_look_into_a_home_old_or_new(tmp_path):
    old = Home(tmp_path / "old")
    old.root.mkdir(mode=0o755)
    new = Home(tmp_path / "below" / "new")

    for home in (old, new):
        home.make_private()
        assert S_IMODE(home.root.stat().st_mode) == 0o700
