"""Builds the net's TensorRT engines by the network API, tries each, and writes down what came of it.

    python3.10 -m bench.gpu.build_engines --weights net.npz --images images.npy --out DIR

Writes ``fp32.plan``, ``fp16.plan`` and ``overflow.plan`` (FP16, its last kernel scaled beyond what FP16
holds), and prints one JSON document: versions and, for each, seconds and answers. Exits with 1 where
an engine does not do as meant, so that nobody measures something else.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt

from bench.gpu.net import BRIGHTEST, DARKEST, SHRINK, Array, Net, stride_of
from bench.gpu.served.engine import LOG, Engine

PROFILE = ((1, 1, 64, 64), (1, 1, 512, 512), (8, 1, 512, 512))
"""The least, usual and greatest shape of CT."""
_WORKSPACE = 1 << 30
_RUNS = 50
_CLOSE = 0.02
"""Between an engine's probability and numpy's."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3.10 -m bench.gpu.build_engines", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="CT [N, 1, H, W] to try each engine with (.npy)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    net, images = Net.load(arguments.weights), np.load(arguments.images)
    expected = net.answer(images)["probability"]
    engines = {}
    for name, weights, half in (("fp32", net, False), ("fp16", net, True), ("overflow", net.overflowing(), True)):
        began = time.perf_counter()
        plan = build(weights, half=half)
        took = time.perf_counter() - began
        (arguments.out / f"{name}.plan").write_bytes(plan)
        engines[name] = {"build_s": took, "plan_bytes": len(plan)} | _tried(plan, images, expected)
        print(f"{name}: built in {took:.1f} s", file=sys.stderr, flush=True)
    problems = _problems(engines)
    print(json.dumps({"tensorrt": trt.__version__, "engines": engines, "problems": problems}))
    return 1 if problems else 0


def build(net: Net, *, half: bool) -> bytes:
    """The plan. Without the tactics that need cuDNN or cuBLAS, and in FP32 without TF32's rounding.

    Raises:
        RuntimeError: TensorRT could not; its log says why.
    """
    builder = trt.Builder(LOG)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    kept = _define(network, net, half=half)
    config = builder.create_builder_config()
    sources = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in sources))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)
    if half:
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    profile = builder.create_optimization_profile()
    profile.set_shape("CT", *PROFILE)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    del kept
    if plan is None:
        raise RuntimeError("TensorRT could not build the engine; its log above says why")
    return bytes(plan)


def _define(network: Any, net: Net, *, half: bool) -> list[Array]:
    """The net as layers. TensorRT reads the returned arrays when it builds: they must live until then."""
    kept: list[Array] = []

    def keep(values: Any) -> Array:
        kept.append(np.ascontiguousarray(values, np.float32))
        return kept[-1]

    def constant(value: float, rank: int) -> Any:
        return network.add_constant((1,) * rank, keep(np.full((1,) * rank, value))).get_output(0)

    def combine(one: Any, operation: Any, other: Any) -> Any:
        return network.add_elementwise(one, other, operation).get_output(0)

    def activate(x: Any, kind: Any) -> Any:
        return network.add_activation(x, kind).get_output(0)

    def convolve(x: Any, kernel: Array, bias: float, stride: int) -> Any:
        outputs, _, size, _ = kernel.shape
        layer = network.add_convolution_nd(x, outputs, (size, size), keep(kernel), keep(np.full(outputs, bias)))
        layer.stride_nd, layer.padding_nd = (stride, stride), (size // 2, size // 2)
        if half:  # without it TensorRT may keep a layer in FP32 where that is faster, and nothing would overflow
            layer.precision = trt.float16
            layer.set_output_type(0, trt.float16)
        return layer.get_output(0)

    plus, times = trt.ElementWiseOperation.SUM, trt.ElementWiseOperation.PROD
    clip = network.add_activation(network.add_input("CT", trt.float32, (-1, 1, -1, -1)), trt.ActivationType.CLIP)
    clip.alpha, clip.beta = DARKEST, BRIGHTEST
    x = combine(clip.get_output(0), plus, constant(-DARKEST, 4))
    x = combine(x, times, constant(1 / (BRIGHTEST - DARKEST), 4))
    for i, kernel in enumerate(net.kernels):
        x = activate(convolve(x, kernel, 0.0, stride_of(i)), trt.ActivationType.RELU)
    logits = convolve(x, net.readout[None, :, None, None], net.readout_bias, 1)
    heatmap = network.add_resize(activate(logits, trt.ActivationType.SIGMOID))  # to the nearest, unless told
    heatmap.scales = [1, 1, SHRINK, SHRINK]
    image = constant(float(net.pool[2]), 2)
    for part, pool in zip(net.pool, (trt.ReduceOperation.MAX, trt.ReduceOperation.AVG), strict=False):
        pooled = network.add_reduce(logits, pool, axes=1 << 2 | 1 << 3, keep_dims=False).get_output(0)
        image = combine(image, plus, combine(pooled, times, constant(float(part), 2)))
    outputs = {"probability": activate(image, trt.ActivationType.SIGMOID), "heatmap": heatmap.get_output(0)}
    for name, tensor in outputs.items():
        tensor.name = name
        tensor.dtype = trt.float32
        network.mark_output(tensor)
    return kept


def _tried(plan: bytes, images: Array, expected: Array) -> dict[str, Any]:
    """What the engine answers, and its device time for one image."""
    engine = Engine(plan)
    answers, _ = engine.run({"CT": images})
    seconds = [engine.run({"CT": images[:1]})[1] for _ in range(_RUNS)]
    probability = answers["probability"]
    return {
        "device_s": float(np.median(seconds)),
        "probability": [float(p) if np.isfinite(p) else None for p in probability.ravel()],
        "off_by": float(np.abs(probability - expected).max()) if np.isfinite(probability).all() else None,
        "non_finite": {name: int((~np.isfinite(array)).sum()) for name, array in answers.items()},
    }


def _problems(engines: dict[str, dict[str, Any]]) -> list[str]:
    right = [
        f"{name} is off by {engines[name]['off_by']} (None: not finite), at most {_CLOSE} are allowed"
        for name in ("fp32", "fp16")
        if engines[name]["off_by"] is None or engines[name]["off_by"] > _CLOSE
    ]
    overflows = engines["overflow"]["non_finite"]["probability"] > 0
    return right if overflows else [*right, "overflow does not overflow: every probability is finite"]


if __name__ == "__main__":
    sys.exit(main())
