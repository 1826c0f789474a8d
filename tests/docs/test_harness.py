"""The harness of the pages finds what is wrong in them."""

from pathlib import Path

import pytest

from tests.docs.calls import check, check_calls, check_command
from tests.docs.pages import Block, Page, PageError, blocks, commands, missing
from tests.docs.workshop import Workshop

PAGE = """# A page

(here)=
## What it *does*, and `how`

- In a list:

  ```sh
  # needs a GPU
  trtcal doctor
  ```

```sh
ls
```

```text
a  12 ms
```

Words, and a [link](other.md#there) with `code_span`.

```text
no output
```

````{note}
```python
print()
```
````
"""


def test_blocks_are_found_wherever_they_stand() -> None:
    found = [(block.info, block.line, block.needs, block.output) for block in blocks(PAGE) if block.info != "text"]
    assert found == [
        ("sh", 8, "gpu", None),
        ("sh", 13, None, ("a  12 ms",)),
        ("python", 28, None, None),
        ("{note}", 27, None, None),
    ]


def test_a_page_knows_its_words_links_and_anchors() -> None:
    page = Page("page.md", PAGE, tuple(blocks(PAGE)))
    assert {"code_span", "trtcal", "ls"} <= page.code and "Words" not in page.code
    assert page.links == ["other.md#there"]
    assert page.anchors == {"a-page", "what-it-does-and-how", "here"}


def test_commands_of_a_script() -> None:
    script = "A=1 trtcal x \\\n  -o y 2>&1 | head\ncat > f.toml <<'END'\ntrtcal no\nEND\ntrtcal z && echo 'a b' # c\n"
    assert list(commands(script)) == [["trtcal", "x", "-o", "y"], ["head"], ["cat"], ["trtcal", "z"], ["echo", "a b"]]


@pytest.mark.parametrize(
    "line",
    [
        "trtcal build model.onnx --precision int8 --backend tensorrt -o model.engine",
        "trtcal cache convert model.cache --tensorrt-version 10.3 -o other.cache",
        "make demo PYTHON=python3.12",
        'pip install ".[rtx,torch]" cuda-bindings',
    ],
)
def test_commands_that_exist_pass(line: str) -> None:
    assert check(Block("sh", line, 1)) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trtcal build model.onnx --fast -o model.engine", "--fast"),
        ("trtcal builds", "no command builds"),
        ("make coffee", "coffee"),
        ("pip install .[nothing]", "nothing"),
    ],
)
def test_commands_that_do_not_exist_fail(line: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        check_command(line.split())


CALLS = """
import trtcal
from trtcal import build_engine

loader = trtcal.ImageLoader("images", batch_size=8)
calibrator = trtcal.EntropyCalibrator2(loader.sampled(3), cache="model.cache")
print(build_engine("model.onnx", calibrator=calibrator, output="model.engine"))
"""


def test_calls_of_what_exists_are_counted() -> None:
    assert check_calls(CALLS) == 4


@pytest.mark.parametrize(
    ("before", "after"),
    [("batch_size", "batches"), ("loader.sampled(3", "loader.sampled(number=3"), ('"model.onnx", ', "")],
)
def test_calls_with_other_arguments_fail(before: str, after: str) -> None:
    with pytest.raises(AssertionError, match="argument"):
        check_calls(CALLS.replace(before, after))


def test_methods_that_do_not_exist_fail() -> None:
    with pytest.raises(AttributeError, match="sample"):
        check_calls(CALLS.replace("sampled", "sample"))


def test_output_is_compared_without_numbers_and_widths() -> None:
    output = "took 9.5 ms\nother\n── end ── -3\n"
    assert missing(("took 12 ms", "...", "── end ──── 4"), output) is None
    assert missing(("other", "took 1 ms"), output) == "took 1 ms"
    assert missing(("took",), output) == "took"
    assert missing(("20 INT4, 2 FP32",), "20 INT8, 2 FP16") == "20 INT4, 2 FP32"


def test_a_block_that_fails_or_prints_something_else_fails(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    assert shop.run(Block("sh", "trtcal --version; python -c 'print(1)'", 1), tmp_path).endswith("1\n")
    assert shop.run(Block("python", "print(2)", 1), tmp_path) == "2\n"
    for block, said in {
        Block("sh", "false | cat\necho after", 7): r"page\.md:7: exit code 1",
        Block("python", "raise SystemExit(3)", 7): r"page\.md:7: exit code 3",
        Block("sh", "echo one", 7, output=("two",)): r"no line \(here\)\ntwo\nbut is\none",
    }.items():
        with pytest.raises(PageError, match=said):
            shop.run(block, tmp_path, "page.md")
