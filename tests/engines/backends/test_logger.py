"""TensorRT's messages reach those who listen, and nobody else; with the real logger of TensorRT for RTX."""

import threading

import pytest

from engines.backends.logger import listening, logger_of

pytestmark = pytest.mark.usefixtures("rtx")


def test_who_listens_hears(rtx):
    first, second = [], []
    with listening(rtx, first) as logger:
        logger.log(rtx.ILogger.WARNING, "one")
        with listening(rtx, second) as same:
            assert same is logger is logger_of(rtx)
            logger.log(rtx.ILogger.INTERNAL_ERROR, "two")
        logger.log(rtx.ILogger.VERBOSE, "three")
    logger.log(rtx.ILogger.ERROR, "nobody listens")
    assert first == [("warning", "one"), ("error", "two"), ("verbose", "three")]
    assert second == [("error", "two")]


def test_the_library_itself_speaks_to_it(rtx):
    heard = []
    with listening(rtx, heard) as logger:
        rtx.Runtime(logger).deserialize_cuda_engine(b"no engine" * 20)
    assert any(severity == "error" and "magicTag" in message for severity, message in heard)


def test_listeners_come_and_go_in_any_order(rtx):
    """Equal lists are told apart, and threads lose none of each other's."""
    lost = []

    def work(number):
        for _ in range(200):
            heard = []
            with listening(rtx, heard) as logger:
                logger.log(rtx.ILogger.INFO, str(number))
            if ("info", str(number)) not in heard:
                lost.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert logger_of(rtx).sinks == {}
