"""ONNX files read without their large weights."""

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calibrators.files import sha256_of
from engines.collection.collect import collect
from engines.graph import without_weights as light
from engines.graph.model import files_of, loaded, model_digest
from engines.graph.without_weights import LARGE, read_light
from tests.engines.networks import samples_of
from tests.engines.zoo import ZOO


@pytest.fixture
def every_weight_is_large(monkeypatch):
    monkeypatch.setattr(light, "LARGE", 0)


def saved(folder, model):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def completed(path):
    """The light model with its weights put back where they came from."""
    model = read_light(path)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    return model


def external(model):
    return [tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]


@pytest.mark.usefixtures("every_weight_is_large")
class TestReading:
    @pytest.mark.parametrize("name", ZOO)
    def test_all_that_was_left_out_is_found_in_its_place(self, name, tmp_path):
        model = ZOO[name]().model
        path = saved(tmp_path, model)
        assert external(read_light(path)) == [t.name for t in model.graph.initializer if t.HasField("raw_data")]
        assert completed(path) == model

    def test_the_real_models(self, shared_data):
        for path in sorted((shared_data / "models").glob("*.onnx")):
            assert completed(path) == onnx.load(path, load_external_data=False)

    def test_weights_that_are_no_raw_data_stay(self, tmp_path):
        model = ZOO["conv_bn_relu"]().model
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.reshape(-1)))
        assert read_light(saved(tmp_path, model)) == model

    def test_external_data_stay_where_they_are(self, tmp_path):
        path = tmp_path / "model.onnx"
        onnx.save(ZOO["gemm"]().model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
        assert read_light(path) == onnx.load(path, load_external_data=False)

    def test_a_graph_in_several_parts(self, tmp_path):
        """Two messages one after the other are both of them together, in any field."""
        model = ZOO["conv_bn_relu"]().model
        first, second = onnx.ModelProto(), onnx.ModelProto()
        first.CopyFrom(model)
        del first.graph.initializer[:]
        second.graph.initializer.extend(model.graph.initializer)
        path = tmp_path / "model.onnx"
        path.write_bytes(first.SerializeToString() + second.SerializeToString())
        assert completed(path) == model

    def test_a_file_cut_off_anywhere(self, tmp_path):
        whole = ZOO["conv_bn_relu"]().model.SerializeToString()
        path = tmp_path / "cut.onnx"
        for size in range(1, len(whole), 7):
            path.write_bytes(whole[:size])
            try:
                model = read_light(path)
            except (ValueError, DecodeError):
                continue
            assert len(model.graph.node) == 0  # what was cut off is a whole field

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "any.onnx"
        path.write_bytes(content)
        try:
            read = read_light(path)
        except (ValueError, DecodeError):
            return
        assert read == onnx.ModelProto.FromString(content)


def large_model():
    """One with weights of over `LARGE` bytes, and others."""
    model = ZOO["conv_bn_relu"]().model
    input_name = model.graph.input[0].name
    weights = np.random.default_rng(0).standard_normal((8, LARGE // 16)).astype(np.float32)
    node = helper.make_node("Mul", ["large_sum", input_name], ["scaled_input"])
    model.graph.initializer.append(numpy_helper.from_array(weights, "large"))
    model.graph.node.append(helper.make_node("ReduceMean", ["large"], ["large_sum"], keepdims=0))
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("scaled_input", TensorProto.FLOAT, None))
    return model


class TestUse:
    def test_small_weights_stay(self, tmp_path):
        assert external(read_light(saved(tmp_path, large_model()))) == ["large"]

    def test_a_loaded_model_is_light(self, tmp_path):
        path = saved(tmp_path, large_model())
        assert external(loaded(path)) == ["large"]
        assert external(loaded(path, light=False)) == []

    def test_the_model_itself_is_no_external_file(self, tmp_path):
        path = saved(tmp_path, large_model())
        assert files_of(path) == (path,)
        assert model_digest(path) == sha256_of(path)

    def test_calibration(self, tmp_path):
        model = large_model()
        samples = samples_of(model, 3)
        assert dict(collect(saved(tmp_path, model), samples)) == dict(collect(model, samples))

    def test_calibration_through_a_link_out_of_the_folder(self, tmp_path):
        """ONNX Runtime takes no external data from there."""
        model = large_model()
        samples = samples_of(model, 3)
        (tmp_path / "blobs").mkdir()
        (tmp_path / "names").mkdir()
        blob = saved(tmp_path / "blobs", model)
        link = tmp_path / "names" / "linked.onnx"
        link.symlink_to(blob)
        assert dict(collect(link, samples)) == dict(collect(model, samples))

    def test_the_text_format_is_read_as_before(self, tmp_path):
        path = tmp_path / "model.textproto"
        onnx.save(large_model(), path)
        assert loaded(path) == onnx.load(path)
