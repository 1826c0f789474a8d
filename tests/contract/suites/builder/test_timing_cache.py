"""The timing cache of builds with `tensorrt`."""

import pytest

from calibrators.errors import (
    BuildError,
    OutputError,
)
from engines.backends import timing_cache
from engines.backends.backend import BuildOptions
from engines.build.builder import build_engine
from tests.contract.builds import left_alone


def timed(path, **options):
    return {"backend": "tensorrt", "precision": "fp32", "options": BuildOptions(timing_cache=path), **options}


def test_a_timing_cache_is_written_and_read(world, plain, target, tmp_path):
    path = tmp_path / "times"
    record = build_engine(plain, output=target, **timed(path)).record
    assert world.timing_cache == b""
    assert path.read_bytes() == b" and a tactic"
    assert record.builder_options == {"timing_cache": "times"}
    build_engine(plain, output=target, **timed(path))
    assert world.timing_cache == b" and a tactic"
    assert path.read_bytes() == b" and a tactic and a tactic"


@pytest.mark.parametrize("how", ["corrupt", "corrupt by the log", "of another GPU"])
def test_a_timing_cache_that_does_not_fit(world, plain, target, tmp_path, how):
    path = tmp_path / "times"
    path.write_bytes(b"junk")
    config = world._building._config

    def refusing():
        made = config()
        if how == "corrupt":
            made.create_timing_cache.side_effect = lambda data: None
        elif how == "corrupt by the log":
            create = made.create_timing_cache.side_effect

            def complaining(data):
                world.log(world._building.logger, "ERROR", "cannot deserialize the timing cache")
                return create(b"")

            made.create_timing_cache.side_effect = complaining
        else:
            made.set_timing_cache.side_effect = lambda cache, ignore_mismatch: ignore_mismatch
        return made

    world._building._config = refusing
    with pytest.raises(BuildError, match=r"the timing cache .*times is corrupt, or of another GPU") as raised:
        build_engine(plain, output=target, **timed(path))
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"junk"
    assert left_alone(target)


def test_what_another_process_wrote_meanwhile_is_kept(world, plain, target, tmp_path):
    path = tmp_path / "times"
    combined: list[bytes] = []
    config = world._building._config

    def watching():
        made = config()
        create = made.create_timing_cache.side_effect

        def watched(data):
            cache = create(data)
            cache.combine.side_effect = lambda other, ignore_mismatch: bool(combined.append(data)) or True
            return cache

        made.create_timing_cache.side_effect = watched
        return made

    world._building._config = watching
    build = world._building._build
    world._building._build = lambda *arguments: (path.write_bytes(b"another's"), build(*arguments))[1]
    build_engine(plain, output=target, **timed(path))
    (cache,) = [call.args[0] for call in world.config.set_timing_cache.call_args_list]
    ((other, ignored), _) = cache.combine.call_args
    assert bytes(other.serialize()) == b"another's"
    assert ignored is False
    assert path.read_bytes() == b" and a tactic"


@pytest.mark.parametrize("how", ["locked", "another's"])
def test_a_timing_cache_that_cannot_be_kept_does_not_lose_the_engine(world, plain, target, tmp_path, monkeypatch, how):
    from filelock import FileLock

    path = tmp_path / "times"
    monkeypatch.setattr(timing_cache, "PATIENCE", 0.1)
    if how == "locked":
        with FileLock(f"{path}.lock"):
            record = build_engine(plain, output=target, **timed(path)).record
        said = "another process has held"
        assert not path.exists()
    else:
        config = world._building._config

        def refusing():
            made = config()
            create = made.create_timing_cache.side_effect
            made.create_timing_cache.side_effect = lambda data: create(data) if not data else None
            return made

        world._building._config = refusing
        build = world._building._build
        world._building._build = lambda *arguments: (path.write_bytes(b"another's"), build(*arguments))[1]
        record = build_engine(plain, output=target, **timed(path)).record
        said = "is corrupt, or of another GPU"
        assert path.read_bytes() == b"another's"
    assert target.exists()
    assert any("the times of this build were not kept: " in line and said in line for line in record.warnings)


def test_a_timing_cache_that_cannot_be_written(world, plain, target, tmp_path):
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        build_engine(plain, output=target, **timed(tmp_path / "absent" / "times"))
    with pytest.raises(OutputError, match="it is read, and would be lost"):
        build_engine(plain, output=target, **timed(plain))
