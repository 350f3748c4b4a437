"""What a wrapped network is given: transforms, dtypes, and what image processors say."""

import types

import numpy as np
import pytest
import torch
from torch import nn

import cfxnb as cfx

X = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))


class Watch(nn.Module):
    """Keeps what it is given, and answers by its mean."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x):
        self.seen = x.detach().clone()
        return x.float().flatten(1).mean(1, keepdim=True) * self.scale.float()


def seen(**options):
    module = Watch()
    cfx.wrap(module, **options)(X)
    return module.seen


def test_a_transform_comes_after_the_size_and_before_the_normalisation():
    found = seen(transform=lambda x: x[..., 2:6, :5], size=(10, 12), mean=0.5, std=0.5)
    resized = torch.nn.functional.interpolate(X, (10, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(found, (resized[..., 2:6, :5] - 0.5) / 0.5)


def test_gradients_pass_through_a_transform():
    x = X.clone().requires_grad_()
    f = cfx.wrap(Watch(), transform=lambda x: x.square())
    f(x)[:, 0].sum().backward()
    torch.testing.assert_close(x.grad, 2 * X / X[0].numel())


def test_the_images_of_the_caller_stay():
    before = X.clone()
    seen(transform=lambda x: x.mul_(0))
    assert torch.equal(X, before)


@pytest.mark.parametrize(
    ("transform", "error"),
    [
        (lambda x: x[:1], ValueError),
        (lambda x: x.numpy(), ValueError),
        (lambda x: None, ValueError),
        (lambda x: (255 * x).to(torch.uint8), TypeError),
        (3, TypeError),
    ],
)
def test_wrong_transforms_are_refused(transform, error):
    with pytest.raises(error, match=r"^transform: expected"):
        seen(transform=transform)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_network_gets_the_dtype(dtype):
    assert seen(dtype=dtype).dtype == dtype
    assert seen().dtype == torch.float32, "that of the weights"


def test_bytes():
    found = seen(dtype=torch.uint8)
    assert found.dtype == torch.uint8
    assert torch.equal(found, (X * 255).round().to(torch.uint8))


@pytest.mark.parametrize("own", [{"mean": 0.5}, {"std": 0.5}, {"processor": {"size": 8}}])
def test_bytes_are_not_normalised(own):
    with pytest.raises(ValueError, match="dtype: expected a float dtype beside mean"):
        cfx.wrap(Watch(), dtype=torch.uint8, **own)


def test_regression_models_are_prepared_alike():
    module = Watch()
    options = {"dtype": torch.float64, "transform": lambda x: 1 - x}
    cfx.wrap_regression(module, **options)(X)
    assert module.seen.dtype == torch.float64
    torch.testing.assert_close(module.seen.float(), 1 - X)


@pytest.mark.parametrize("dtype", ["float16", torch.int64, torch.complex64, 16])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype: expected a float dtype"):
        cfx.wrap(Watch(), dtype=dtype)


def processor(**settings):
    usual = {
        "do_resize": True, "size": {"height": 12, "width": 16}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
    }  # fmt: skip
    return usual | settings


def pictures(size=(24, 20)):
    """Bytes, as processors get them, and the same images as floats."""
    draw = np.random.default_rng(0)
    smooth = draw.random((3, 3, 5, 4))
    big = torch.nn.functional.interpolate(torch.tensor(smooth), size, mode="bicubic").clamp(0, 1)
    data = (big * 255).round().to(torch.uint8)
    return data.permute(0, 2, 3, 1).numpy(), data.float() / 255


SETTINGS = {
    "height and width": {},
    "bicubic": {"resample": 3},
    "no resizing": {"do_resize": False},
    "no normalisation": {"do_normalize": False},
    "bytes": {"do_rescale": False, "image_mean": [100.0] * 3, "image_std": [50.0] * 3},
    "another factor": {"rescale_factor": 1 / 127.5},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_processor_is_read_as_transformers_calls_it(settings):
    """The numbers are those of the processor itself, up to the rounding to bytes."""
    transformers = pytest.importorskip("transformers")
    made = transformers.ViTImageProcessor(**processor(**settings))
    data, images = pictures()
    wanted = made(list(data), return_tensors="pt")["pixel_values"]
    module = Watch()
    cfx.wrap(module, processor=made)(images)
    assert module.seen.shape == wanted.shape
    scale = 255 if settings.get("do_rescale") is False else 1
    atol = 0.03 * float(wanted.abs().max()) if scale == 255 else 0.06
    torch.testing.assert_close(module.seen, wanted.float(), atol=atol, rtol=0)


def test_a_processor_that_crops():
    transformers = pytest.importorskip("transformers")
    made = transformers.CLIPImageProcessor(
        size={"shortest_edge": 14}, crop_size={"height": 10, "width": 12}, resample=3
    )
    data, images = pictures()
    wanted = made(list(data), return_tensors="pt")["pixel_values"]
    module = Watch()
    cfx.wrap(module, processor=made)(images)
    assert module.seen.shape == wanted.shape == (3, 3, 10, 12)
    torch.testing.assert_close(module.seen, wanted.float(), atol=0.1, rtol=0)


def test_a_pipeline_is_its_model_and_its_processor():
    """With the names of the classes from the config of the model."""
    model = Watch()
    model.config = types.SimpleNamespace(id2label={0: "cat", 1: "dog"})
    pipeline = types.SimpleNamespace(
        model=model, image_processor=types.SimpleNamespace(**processor()), preprocess=1,
        postprocess=2,
    )  # fmt: skip
    f = cfx.wrap(pipeline)
    f(X)
    assert model.seen.shape == (3, 3, 12, 16)
    assert f.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"processor": 3}, TypeError, "processor: expected an image processor"),
        ({"processor": processor(), "mean": 0.5}, ValueError, "none of mean.*got mean"),
        ({"processor": processor(size={"longest_edge": 3})}, ValueError, "longest_edge"),
        ({"processor": processor(resample=1)}, ValueError, "resample=1"),
    ],
)
def test_what_is_no_processor_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        cfx.wrap(Watch(), **options)
