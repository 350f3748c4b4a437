"""Wrong values by kind: name -> (value, what the message must say that came)."""

import inspect
import math

import numpy as np
import torch

NAN, INF = math.nan, math.inf


def image_values(shape=(2, 3, 4, 4)):
    good = torch.full(shape, 0.5)

    def with_one(value):
        wrong = good.clone()
        wrong.view(-1)[0] = value
        return wrong

    return {
        "None": (None, "NoneType"),
        "text array": (np.array(["a"]), "array of <U1"),
        "gray ones or one": (np.zeros((8, 5, 5)), "(8, 5, 5)"),
        "list": ([[0.5]], "list"),
        "text": ("digits", "str"),
        "number": (0.5, "float"),
        "five dims": (good[None], str((1, *shape))),
        "empty": (good[:0], str((0, *shape[1:]))),
        "black and white": ((2 * good).to(torch.uint8), "uint8"),
        "whole": (1000 * good.ceil().long(), "1000"),
        "bool": (good.bool(), "bool"),
        "NaN": (with_one(NAN), "NaN"),
        "infinite": (with_one(INF), "infinity"),
        "above 1": (with_one(1.5), "1.5"),
        "below 0": (with_one(-0.5), "-0.5"),
        "0 to 255": (255 * good, "127.5"),
    }


def label_values(rows=2, classes=2):
    return {
        "None": (None, "NoneType"),
        "text": ("1", "str"),
        "float": (1.0, "float"),
        "bool": (True, "bool"),
        "list of floats": ([0.5] * rows, "list"),
        "float tensor": (torch.zeros(rows), "float32"),
        "bool tensor": (torch.zeros(rows, dtype=torch.bool), "bool"),
        "too many": (torch.zeros(rows + 1, dtype=torch.int64), str((rows + 1,))),
        "column": (torch.zeros(rows, 1, dtype=torch.int64), str((rows, 1))),
        "too large": (classes, str(classes)),
        "negative": (-1, "-1"),
        "one too large": (torch.tensor([0] * (rows - 1) + [classes]), str(classes)),
    }


def number_values(*out_of_range):
    wrong = {
        "None": (None, "NoneType"),
        "text": ("0.5", "str"),
        "bool": (True, "bool"),
        "list": ([0.5], "list"),
        "tensor": (torch.tensor(0.5), "Tensor"),
        "NaN": (NAN, "nan"),
        "infinite": (INF, "inf"),
    }
    return wrong | {f"{v}": (v, repr(v)) for v in out_of_range}


def count_values(*out_of_range):
    wrong = {
        "None": (None, "NoneType"),
        "text": ("5", "str"),
        "bool": (True, "bool"),
        "float": (5.0, "float"),
        "NaN": (NAN, "nan"),
        "tensor": (torch.tensor(5), "Tensor"),
    }
    return wrong | {f"{v}": (v, repr(v)) for v in out_of_range}


def choice_values(near):
    return {
        "None": (None, "None"),
        "empty": ("", "''"),
        "another": ("nonsense", "'nonsense'"),
        "upper case": (near.upper(), f"'{near.upper()}'"),
        "number": (1, "1"),
        "list": ([near], f"['{near}']"),
    }


def space_values():
    return {
        "None": (None, "NoneType"),
        "text": ("digits/vae", "str"),
        "module": (torch.nn.Linear(2, 2), "Linear"),
        "class": (dict, "class dict"),
    }


def classifier_values(rows=2):
    def constant(value):
        return lambda images: value

    return {
        "None": (None, "NoneType"),
        "text": ("digits/classifier", "str"),
        "gives a text": (constant("cat"), "str"),
        "whole numbers": (lambda x: torch.zeros(len(x), 2, dtype=torch.int64), "int64"),
        "one logit": (constant(torch.zeros(rows, 1)), str((rows, 1))),
        "no classes": (constant(torch.zeros(rows)), str((rows,))),
        "wrong rows": (constant(torch.zeros(rows + 5, 2)), str((rows + 5, 2))),
    }


def feature_values():
    return {
        "None": (None, "NoneType"),
        "array": (np.zeros((9, 3)), "ndarray"),
        "images": (torch.zeros(9, 1, 2, 2), "(9, 1, 2, 2)"),
        "vector": (torch.zeros(9), "(9,)"),
        "NaN": (torch.full((9, 3), NAN), "NaN"),
        "infinite": (torch.full((9, 3), INF), "infinity"),
    }


def result_values():
    return {"None": (None, "NoneType"), "tensor": (torch.zeros(2), "Tensor"), "dict": ({}, "dict")}


#: Arguments that many functions share. The generated calls of tests/contract test them.
SHARED = {"output_dir", "ax", "axes", "transform", "dtype", "processor"}


def own_arguments(function):
    """The arguments of a function that its table of wrong values must list."""
    return set(inspect.signature(function).parameters) - SHARED
