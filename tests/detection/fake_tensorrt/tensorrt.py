"""A stand-in for NVIDIA's `tensorrt`: its names and signatures in release FAKE_TENSORRT_VERSION, computed by numpy.

What release has what is recorded in `api.json`; a test holds this module to it. Of TensorRT's behaviour it keeps what
the worker must get right: a plan is tied to the release, fp16 ends at 65,504 in every layer that is not pinned, batches
outside the profile are not executed, failures are None or False and a word on stderr. Files in the folder FAKE_TENSORRT
make it misbehave: `execute` and `build`, by the word in them. Syntax of Python 3.6.
"""

import ctypes
import enum
import json
import os
import signal
import sys
import time

import numpy as np
from graph import LAYER_OF, OPERATORS_OF_8_2, Graph

# ruff: noqa: B905 - zip's strict is not for Python 3.6

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0")
IS_OLD = __version__.startswith("8.2")


def _switch(name):
    try:
        with open(os.path.join(os.environ["FAKE_TENSORRT"], name)) as file:
            return file.read()
    except OSError:
        return ""


def _record(text):
    with open(os.path.join(os.environ["FAKE_TENSORRT"], "calls"), "a") as file:
        file.write(text + "\n")


def _misbehave(word):
    if word == "hang":
        time.sleep(600)
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "memory":
        raise MemoryError
    elif word == "raise":
        raise RuntimeError("an error of TensorRT's own")


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    BOOL = 4


float32, float16 = DataType.FLOAT, DataType.HALF


class BuilderFlag(enum.Enum):
    FP16 = 0
    OBEY_PRECISION_CONSTRAINTS = 10


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0


_LAYERS = ["CONVOLUTION", "SOFTMAX", "MATRIX_MULTIPLY", "ELEMENTWISE", "CONSTANT", "SHAPE"]
_LAYERS += ["ITERATOR", "TRIP_LIMIT", "RECURRENCE"]
LayerType = enum.Enum("LayerType", _LAYERS + (["FULLY_CONNECTED", "RNN_V2"] if IS_OLD else []))

if not IS_OLD:

    class MemoryPoolType(enum.Enum):
        WORKSPACE = 0


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self, min_severity=WARNING):
        self.min_severity = min_severity


class _Tensor:
    def __init__(self, name, shape, dtype):
        self.name, self.shape, self.dtype = name, shape, dtype


class _Layer:
    def __init__(self, node, inputs, outputs):
        self._inputs, self._outputs = inputs, outputs
        self.type = LayerType[LAYER_OF.get(node.op, "ELEMENTWISE")]
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)
        self.precision = None
        self._types = {}

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]

    def set_output_type(self, index, dtype):
        if self._outputs[index].dtype != float32:
            raise RuntimeError("only a float may become another float")
        self._types[index] = dtype


class INetworkDefinition:
    def __init__(self):
        self._graph, self._layers, self._inputs = None, [], []

    @property
    def num_inputs(self):
        return len(self._inputs)

    @property
    def num_layers(self):
        return len(self._layers)

    def get_input(self, index):
        return self._inputs[index]

    def get_layer(self, index):
        return self._layers[index]


class ParserError:
    def __init__(self, text):
        self._text = text

    def desc(self):
        return self._text


class OnnxParser:
    def __init__(self, network, logger):
        self._network, self._errors = network, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]

    def parse(self, model, path=None):
        network = self._network
        try:
            network._graph = graph = Graph(bytes(model))
        except ValueError as exc:
            self._errors.append(ParserError(str(exc)))
            return False
        unknown = {node.op for node in graph.nodes} - OPERATORS_OF_8_2
        if unknown or graph.opset > (13 if IS_OLD else 20):
            self._errors.append(ParserError(f"opset {graph.opset}; no importer registered for op: {sorted(unknown)}"))
            return False
        tensors = {name: _Tensor(name, shape, float32) for name, shape in graph.inputs.items()}
        network._inputs = list(tensors.values())
        for node in graph.nodes:
            dtype = float32 if node.op != "Cast" or node.attributes.get("to") == 1 else DataType.INT32
            outputs = [_Tensor(name, (), dtype) for name in node.outputs if name]
            tensors.update((each.name, each) for each in outputs)
            inputs = [tensors[name] for name in node.inputs if name in tensors]
            network._layers.append(_Layer(node, inputs, outputs))
        return True


class IOptimizationProfile:
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):
        if not all(low <= best <= high for low, best, high in zip(min, opt, max)):
            raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
        self._shapes[input] = [list(min), list(opt), list(max)]


class ITimingCache:
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return memoryview(self._content)


class IBuilderConfig:
    def __init__(self):
        self._flags, self._profiles, self._timing, self._workspace = set(), [], None, None

    def set_flag(self, flag):
        self._flags.add(flag)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache, ignore_mismatch):
        self._timing = cache
        return True

    def get_timing_cache(self):
        return self._timing

    if IS_OLD:

        @property
        def max_workspace_size(self):
            return self._workspace

        @max_workspace_size.setter
        def max_workspace_size(self, size):
            self._workspace = size

    else:

        def set_memory_pool_limit(self, pool, pool_size):
            self._workspace = pool_size


class Builder:
    platform_has_fast_fp16 = True

    def __init__(self, logger):
        pass

    def create_network(self, flags=0):
        if IS_OLD and not flags & 1 << int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH):
            raise RuntimeError("the ONNX parser wants an explicit batch")
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        seen = len(bytes(config._timing.serialize())) if config._timing else -1
        is_half = BuilderFlag.FP16 in config._flags
        is_obeyed = BuilderFlag.OBEY_PRECISION_CONSTRAINTS in config._flags
        _record(f"build fp16={is_half} timing={seen} workspace={config._workspace}")
        word = _switch("build")
        _misbehave(word)
        if word == "none" or config._workspace is None or config._timing is None:
            print("[E] 10: could not find any implementation", file=sys.stderr)
            return None
        config._timing._content += b"measured"
        # A layer that reads a graph's input and is not pinned rounds it to fp16.
        names = {each.name for each in network._inputs}
        readers = [each for each in network._layers if any(tensor.name in names for tensor in each._inputs)]
        is_wide = is_obeyed and all(each.precision == float32 and each._types for each in readers)
        facts = {"version": __version__, "half": is_half, "wide": is_wide, "profile": config._profiles[0]._shapes}
        return memoryview(json.dumps(facts).encode() + b"\n" + network._graph.model)


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, serialized_engine):
        facts, _, model = bytes(serialized_engine).partition(b"\n")
        try:
            engine = ICudaEngine(json.loads(facts.decode()), Graph(model))
        except ValueError:
            print("[E] magicTag does not match", file=sys.stderr)
            return None
        if engine._facts["version"] != __version__:
            print("[E] the engine plan file is not compatible with this version of TensorRT", file=sys.stderr)
            return None
        _record("load")
        return engine


class ICudaEngine:
    def __init__(self, facts, graph):
        self._facts, self._graph = facts, graph
        self._shapes = dict(graph.inputs, **graph.outputs)
        self._names = list(self._shapes)

    def create_execution_context(self):
        return IExecutionContext(self)

    if IS_OLD:

        @property
        def num_bindings(self):
            return len(self._names)

        def get_binding_name(self, index):
            return self._names[index]

        def get_binding_shape(self, index):
            return self._shapes[self._names[index] if isinstance(index, int) else index]

        def get_binding_dtype(self, index):
            return float32

    else:

        @property
        def num_io_tensors(self):
            return len(self._names)

        def get_tensor_name(self, index):
            return self._names[index]

        def get_tensor_shape(self, name):
            return self._shapes[name]

        def get_tensor_dtype(self, name):
            return float32


class IExecutionContext:
    def __init__(self, engine):
        self._engine, self._inputs, self._addresses = engine, {}, {}

    def _set_shape(self, name, shape):
        profile = self._engine._facts["profile"].get(name)
        is_in = profile is not None and all(low <= at <= high for low, at, high in zip(profile[0], shape, profile[2]))
        if is_in:
            self._inputs[name] = tuple(shape)
        return is_in

    def _execute(self, stream_handle):
        word = _switch("execute")
        _misbehave(word)
        if stream_handle != 0x57 or word == "false" or set(self._addresses) != set(self._engine._names):
            print("[E] enqueue: an error", file=sys.stderr)
            return False
        facts = self._engine._facts
        arrays = {name: _at(self._addresses[name], shape).copy() for name, shape in self._inputs.items()}
        if facts["half"] and not facts["wide"]:
            with np.errstate(over="ignore"):
                arrays = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
        for name, scores in self._engine._graph.scores(**arrays).items():
            result = scores.astype(np.float16).astype(np.float32) if facts["half"] else scores
            if word == "nan":
                result = np.full_like(result, np.nan)
            if word in ("wrong", "wrong fp16" if facts["half"] else "") and name == "probabilities":
                result = np.roll(result, 1, axis=1)
            _at(self._addresses[name], result.shape)[...] = result
        return True

    if IS_OLD:

        def set_binding_shape(self, binding, shape):
            return self._set_shape(self._engine._names[binding], shape)

        def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
            self._addresses = dict(zip(self._engine._names, bindings))
            return self._execute(stream_handle)

    else:

        def set_input_shape(self, name, shape):
            return self._set_shape(name, shape)

        def set_tensor_address(self, name, memory):
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle):
            return self._execute(stream_handle)


def _at(address, shape):
    """Return the array at a device address; the fake device's addresses are odd."""
    if address % 2 == 0:
        raise RuntimeError("an address of the host")
    count = int(np.prod(shape)) if shape else 1
    return np.frombuffer((ctypes.c_float * count).from_address(address - 1), np.float32).reshape(shape)
