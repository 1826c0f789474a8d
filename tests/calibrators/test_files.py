import errno
import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibrators.errors import OutputError
from calibrators.files import require_apart, require_outputs, require_writable, sha256_of, whole_file, write_whole

OLD = b"what was there before"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A good file that stands where the new one is to go."""
    path = tmp_path / "model.cache"
    path.write_bytes(OLD)
    return path


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_it_writes_bytes_and_text_as_they_are(tmp_path: Path) -> None:
    write_whole(tmp_path / "bytes", b"\x00\xff\r\n")
    write_whole(str(tmp_path / "text"), "größer\r\n\n")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "text").read_bytes() == "größer\r\n\n".encode()


def test_the_new_file_replaces_the_old_one_at_the_end_of_the_block(target: Path) -> None:
    with whole_file(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_bytes(b"new")
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_stops_the_block_leaves_the_old_file_and_nothing_else(
    target: Path, interruption: type[BaseException]
) -> None:
    with pytest.raises(interruption), whole_file(target) as temporary:
        temporary.write_bytes(b"half of")
        raise interruption
    assert_untouched(target)


def test_an_interruption_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "model.cache") as temporary:
        temporary.write_bytes(b"half of")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line(target: Path, code: int) -> None:
    with pytest.raises(OutputError) as error, whole_file(target) as temporary:
        temporary.write_bytes(b"half of")
        raise OSError(code, os.strerror(code))
    assert str(error.value) == f"cannot write {target}: no space left on the disk; what was there before is unchanged"
    assert error.value.exit_code == 2
    assert_untouched(target)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "fill_up",
    [
        lambda patch: patch.setattr(Path, "write_bytes", full),
        lambda patch: patch.setattr(os, "fsync", full),
        lambda patch: patch.setattr(os, "open", full),
    ],
    ids=["while writing", "while the system writes back", "while making the temporary file"],
)
def test_a_disk_may_be_full_at_any_step(
    target: Path, monkeypatch: pytest.MonkeyPatch, fill_up: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with monkeypatch.context() as patch:
        fill_up(patch)
        with pytest.raises(OutputError, match="no space left on the disk"):
            write_whole(target, b"new")
    assert_untouched(target)


@contextmanager
def files_of_4096_bytes() -> Iterator[None]:
    """Let the operating system itself refuse to write more; not while pytest writes, whose output may be a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_operating_system_stops_a_write_half_way(target: Path) -> None:
    with pytest.raises(OutputError, match="no space left on the disk"), files_of_4096_bytes():
        write_whole(target, bytes(100_000))
    assert_untouched(target)


def test_an_error_while_writing_says_what_the_system_said(target: Path) -> None:
    with pytest.raises(OutputError) as error, whole_file(target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert str(error.value) == f"cannot write {target}: {os.strerror(errno.EIO)}; choose another place"
    assert_untouched(target)


def test_a_block_that_removes_its_file_is_no_success(target: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), whole_file(target) as temporary:
        temporary.unlink()
    assert_untouched(target)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o444, 0o755])
def test_permissions_of_the_old_file_stay(target: Path, mode: int) -> None:
    target.chmod(mode)
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only a superuser gives files away")
@pytest.mark.parametrize("mode", [0o640, 0o664])
def test_owner_and_group_of_the_old_file_stay(target: Path, mode: int) -> None:
    os.chown(target, 12345, 23456)
    target.chmod(mode)
    write_whole(target, b"new")
    found = target.stat()
    assert (target.read_bytes(), found.st_uid, found.st_gid, found.st_mode & 0o777) == (b"new", 12345, 23456, mode)


def test_an_owner_that_may_not_be_given_is_no_error(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(path: Path, owner: int, group: int) -> None:
        asked.append((owner, group))
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert asked == [(-1, os.getegid()), (os.geteuid(), -1)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only a superuser gives files away")
def test_a_new_file_in_the_place_of_a_link_is_not_the_targets_owners(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "another's.cache", tmp_path / "model.cache"
    elsewhere.write_bytes(OLD)
    os.chown(elsewhere, 12345, 23456)
    link.symlink_to(elsewhere)
    write_whole(link, b"new")
    assert link.stat().st_uid == os.geteuid()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "new", b"")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == mode


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "another's.cache", tmp_path / "model.cache"
    elsewhere.write_bytes(OLD)
    elsewhere.chmod(0o640)
    link.symlink_to(elsewhere)
    write_whole(link, b"new")
    assert (link.read_bytes(), link.is_symlink()) == (b"new", False)
    assert elsewhere.read_bytes() == OLD


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "model.cache"
    link.symlink_to(tmp_path / "gone")
    write_whole(link, b"new")
    assert (link.read_bytes(), link.is_symlink()) == (b"new", False)
    assert not (tmp_path / "gone").exists()


def test_a_hard_link_keeps_the_old_content(target: Path) -> None:
    other = target.with_name("other.cache")
    other.hardlink_to(target)
    write_whole(target, b"new")
    assert (target.read_bytes(), other.read_bytes()) == (b"new", OLD)


def test_two_files_replace_their_old_ones_together_or_not_at_all(target: Path) -> None:
    second = target.with_name("model.cache.json")
    second.write_bytes(OLD)
    with pytest.raises(KeyboardInterrupt), whole_file(target) as one, whole_file(second) as two:
        one.write_bytes(b"new")
        two.write_bytes(b"new")
        raise KeyboardInterrupt
    assert (target.read_bytes(), second.read_bytes()) == (OLD, OLD)
    assert sorted(target.parent.iterdir()) == [target, second]


@pytest.mark.parametrize("name", ["m" * 255, "ä" * 127, "*?[x] 'y' \"z\" $HOME", "-o", ".hidden", "a\nb"])
def test_any_name_that_the_system_takes_will_do(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "model.cache"
    for write in (require_writable, lambda path: write_whole(path, b"new")):
        with pytest.raises(OutputError) as error:
            write(path)
        assert str(error.value) == f"cannot write {path}: the folder {path.parent} does not exist; make it first"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(target: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_whole(target / "model.cache", b"new")
    assert_untouched(target)


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    for write in (require_writable, lambda path: write_whole(path, b"new")):
        with pytest.raises(OutputError) as error:
            write(tmp_path)
        assert str(error.value) == f"cannot write {tmp_path}: it is a folder; give the name of a file"


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(OutputError) as error:
            write_whole(path, b"new")
        assert str(error.value) == f"cannot write {path}: it is a device or a pipe; give the name of a file"
    assert pipe.is_fifo() and Path(os.devnull).is_char_device()


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*m: File name too long; choose another place"):
        require_writable(tmp_path / ("m" * 300))


@pytest.mark.parametrize("write", [require_writable, lambda path: write_whole(path, b"new")])
def test_a_folder_without_permission_is_named(
    target: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    refused = target.parent
    with monkeypatch.context() as patch:  # no folder refuses a superuser, who may be running the tests
        patch.setattr(os, "access", lambda folder, mode: not (folder == refused and mode == os.W_OK))
        with pytest.raises(OutputError) as error:
            write(target)
    assert str(error.value) == f"cannot write {target}: no permission to write in {refused}; choose another place"
    assert_untouched(target)


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder refuses a superuser")
def test_a_read_only_folder_really_refuses(target: Path) -> None:
    target.parent.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="no permission to write in"):
            write_whole(target, b"new")
    finally:
        target.parent.chmod(0o755)
    assert_untouched(target)


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder refuses a superuser")
def test_a_folder_that_may_not_be_looked_into_really_refuses(target: Path) -> None:
    target.parent.chmod(0o000)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            require_writable(target)
    finally:
        target.parent.chmod(0o755)


def test_asking_leaves_no_trace(tmp_path: Path) -> None:
    require_writable(tmp_path / "model.cache")
    assert list(tmp_path.iterdir()) == []


def test_several_outputs_are_asked_for_at_once(target: Path) -> None:
    require_outputs([])
    require_outputs(
        [target, target.with_name("new"), str(target.with_name("other"))], inputs=[target.parent, "none.onnx"]
    )
    with pytest.raises(OutputError, match="it is a folder"):
        require_outputs([target, target.parent])
    assert_untouched(target)


@pytest.mark.parametrize("spelling", ["model.cache", "./model.cache", "../{folder}/model.cache", "link"])
def test_two_outputs_in_one_file_are_refused(target: Path, spelling: str) -> None:
    (target.parent / "link").symlink_to(target)
    twin = target.parent / spelling.format(folder=target.parent.name)
    with pytest.raises(OutputError, match="two outputs would be this one file; give each its own name"):
        require_outputs([target, twin])
    (target.parent / "link").unlink()
    assert_untouched(target)


def test_an_output_that_is_an_input_is_refused(target: Path) -> None:
    symbolic, hard = target.with_name("symbolic"), target.with_name("hard")
    symbolic.symlink_to(target)
    hard.hardlink_to(target)
    for source in (target, str(target), symbolic, hard):
        with pytest.raises(OutputError) as error:
            require_outputs([target.with_name("new"), target], inputs=["none.onnx", source])
        assert str(error.value) == f"cannot write {target}: it is read, and would be lost; choose another name"
        for output in (target, symbolic, hard):
            with pytest.raises(OutputError, match=f"cannot write {output}: it is read"):
                require_apart([output], [source])
    require_apart([target.with_name("new"), target], ["none.onnx", target.parent])
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_digest_is_of_all_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()
