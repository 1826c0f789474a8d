"""The section of layers: a place for each, edges, and time that grows with the graph alone."""

import onnx
from onnx import TensorProto, helper

from tests.engines.networks import Net, classifier
from trtcal.report.gather.layers import layers_section


def test_each_node_has_a_place_of_its_own_behind_what_it_reads():
    found = layers_section(classifier(), precisions={})
    places = [(each["level"], each["lane"]) for each in found["nodes"]]
    assert len(set(places)) == len(places)
    for one, other in found["edges"]:
        assert found["nodes"][one]["level"] < found["nodes"][other]["level"]
    names = {each["name"] for each in found["nodes"]}
    assert len(names) == len(classifier().graph.node)


def test_branches_stand_in_lanes_beside_each_other():
    net = Net()
    x = net.conv(net.input("x", ("N", 4, 8, 8)), "stem", 4, 4, 3, 3)
    one, other = net.conv(x, "one", 4, 4, 3, 3), net.conv(x, "other", 4, 4, 1, 1)
    net.node("Add", f"{one} {other}", "sum")
    found = {each["name"]: each for each in layers_section(net.model("sum"), precisions={"one/Conv": "int8"})["nodes"]}
    assert found["one/Conv"]["level"] == found["other/Conv"]["level"] == 1
    assert {found["one/Conv"]["lane"], found["other/Conv"]["lane"]} == {0, 1}
    assert (found["one/Conv"]["precision"], found["other/Conv"]["precision"]) == ("int8", "fp32")
    assert next(each for each in found.values() if each["operator"] == "Add")["level"] == 2


def test_what_is_known_of_a_layer_is_told():
    net = Net()
    model = net.model(net.conv(net.input("x", ("N", 4, 8, 8)), "conv", 4, 4, 3, 3))
    name = "conv/Conv"
    known = {"scales": {name: 0.5}, "errors": {name: 30.0}, "macs": {name: 7}, "reasons": {name: "a head"}}
    (each,) = layers_section(model, precisions={name: "fp16"}, **known)["nodes"]
    told = each["scale"], each["error_db"], each["macs"], each["reason"], each["precision"], each["operator"]
    assert told == (0.5, 30.0, 7, "a head", "fp16", "Conv")


def test_a_graph_of_many_nodes():
    count = 5000
    nodes = [helper.make_node("Relu", [f"t{number}"], [f"t{number + 1}"], f"n{number}") for number in range(count)]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("t0", f"t{count}")]
    model = helper.make_model(
        helper.make_graph(nodes, "long", value[:1], value[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model)
    found = layers_section(model, precisions={})
    assert [each["level"] for each in found["nodes"]] == list(range(count))
    assert {each["shapes"] for each in found["nodes"]} == {"1x4"}
