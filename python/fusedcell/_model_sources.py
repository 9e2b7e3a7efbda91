"""Where whole models come from, and where they go: each reader is imported when it is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import ModelProto
    from torch.nn import Module
    from typing_extensions import Self

Path: TypeAlias = str | os.PathLike[str]
Axes: TypeAlias = "tuple[str | int, ...]"


class ModelSources:
    """What makes models of other libraries' models and files."""

    @classmethod
    def _of_source(cls, module: str, *given: Any, dtype: str, isa: str | None, **options: Any) -> Self:
        """The model that a reader's ``read_model`` describes."""
        read = import_module(f".convert.{module}", __package__).read_model
        spec = read(*given, **options)
        for note in spec.notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        model: Any = spec.make(cls, isa=isa)
        result: Self = model if dtype == "float32" else model.astype(dtype)
        return result

    @classmethod
    def from_torch(cls, module: Module, example: object, *, dtype: str = "float32", isa: str | None = None) -> Self:
        """The model of a PyTorch module in evaluation mode, all of it, from input to answer.

        The module is exported by ``torch.export`` at several sizes, and what differs is batch and time. The model takes
        and gives arrays of the shapes that the module has; :attr:`.Model.axes` says which axis is what. Answers in
        tuples or dictionaries come as a flat tuple. Weights are converted to float32.

        - module: a ``torch.nn.Module``, or a TorchScript module that PyTorch can convert. It is not changed.
        - example: the tensor that it is called with, or a tuple of its arguments, which may have lists and dictionaries
          of tensors in them. Numbers, strings and None among them stay as they are.
        - dtype: of the matrices, as for :meth:`.Model.astype`.
        - isa: the instruction-set tier, as for a layer.

        States that the module takes and gives back in the same order are the model's own: calls do not take them, and
        begin with zeros; streams carry them on. Of a module without time, which does one step, a call is one step from
        zeros, and ``stream.step`` one that carries on. Lengths, integers (B,) that the module packs its sequences by,
        become ``lengths=`` of calls; answers are zero past them.

        Finally the model is run on the example and on drawn numbers of another shape, with states of zeros, and its
        answers are compared with the module's.

        Raises UnsupportedError for what a model cannot do, with the line of the module's source that asks for it, and
        where an answer differs from the module's by over 1e-4 of its largest; TypeError for an example that has no
        tensors; and what the module raises, if the example does not fit it.
        """
        return cls._of_source("torch.model", module, example, dtype=dtype, isa=isa)

    # Any: Keras has no types.
    @classmethod
    def from_keras(cls, model: Path | Any, *, dtype: str = "float32", isa: str | None = None) -> Self:
        """The model of a Keras model, with the answers of its inference: exactly that, or an error.

        `model` is the path of a ``.keras`` or ``.h5`` file of Keras 2 or 3, for which Keras is not needed and of which
        nothing is run, or a Sequential or Functional model of Keras 3. docs/keras.md lists the layers; models inside
        models, shared layers, and several inputs and outputs are read too.

        The model takes and gives what Keras's does: inputs in its order and by its names, tokens where an Embedding
        reads them, float32 (B, T, features) or as :attr:`axes` says. Time is the axis of any length, or else the first
        after the batch; where that cannot be, as before Flatten, its steps are features of one row, and where Reshape
        or Permute make time of another axis it is that one. Outputs have the names of the layers that make them.
        Stateful layers begin anew in each call, and go on in a stream.

        Masks of Masking and of Embedding with mask_zero are not made of data: give `lengths`, without which all rows
        count. Layers between such a mask and a layer that keeps to it may not read other rows.

        - dtype: of the matrices, as for :meth:`astype`
        - isa: the instruction-set tier, as for a model

        Raises UnsupportedError that names the layer, its class and what is supported, for what cannot be computed
        exactly; ValueError for a damaged file, shapes that do not fit, or a live model without weights; OSError for a
        file that cannot be read; ImportError without h5py for a file (``pip install fusedcell[keras]``), and
        RuntimeError where the process that a file is read in cannot be started.
        """
        return cls._of_source("keras.model", model, dtype=dtype, isa=isa)

    @classmethod
    def from_onnx(
        cls,
        model: Path | bytes | ModelProto,
        states: Mapping[str, str] | None = None,
        *,
        axes: Mapping[str, Axes] | None = None,
        constants: Mapping[str, npt.ArrayLike] | None = None,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> Self:
        """The model of an ONNX graph: exactly what it computes, or an error that names the node.

        The operators that are followed, and what of them is not, are in the documentation ("ONNX",
        "Reading whole models").

        - model: a path, the bytes of a file, or an ``onnx.ModelProto``
        - states: for each input that carries a state from call to call, the output that it goes on with:
          {"h": "hn", "c": "cn"}. Such inputs and outputs are not the model's: a call begins with zeros, and streams
          keep the states. They are initial states of recurrent nodes, and of cells that the graph has as Gemm, Sigmoid
          and others, and rows that Concat puts in front of others along time, which a later call is given again. A
          UserWarning names the states of a graph that is read without.
        - axes: for an input, what its axes are, such as ("batch", "time", 40), where its sizes and their names do not
          tell or another reading is wanted; numbers are features
        - constants: values of inputs that calls do not give, such as {"sr": 16000}
        - dtype, isa: as for a layer

        Inputs and outputs have the shapes of the graph's, batch and time being of any size. Which axis is which follows
        from the names of sizes; where they do not tell, the readings are tried from the usual ones on, (batch, time,
        ...) first, until the graph can be followed. Where several axes behind these could be time, and in all other
        refusals, the error ends with `axes` to paste. A graph of fixed sizes becomes a model of any, if none of its
        constants depends on them.

        Raises UnsupportedError that names the node and what it asks for, ValueError for a broken file and for names
        that are no inputs or outputs, ImportError without the package onnx (``pip install fusedcell[onnx]``).
        """
        given = {"axes": axes, "constants": constants}
        return cls._of_source("onnx.model", model, states or {}, dtype=dtype, isa=isa, **given)

    @classmethod
    def from_json(cls, path: Path, *, dtype: str = "float32", isa: str | None = None) -> Self:
        """The model of an amplifier's JSON file: NAM, RTNeural, AIDA-X or GuitarML, which its keys tell apart.

        The input x has the audio first and then the file's knobs, if it has any: floats (T, I), or with a batch
        (B, T, I) of NAM, RTNeural and AIDA-X and (T, B, I) of GuitarML and state dictionaries, as where they come from.

        - NAM: a ``.nam`` file of version 0.5 to 0.7 whose architecture is LSTM, from its learned h and c.
        - RTNeural: "in_shape" and "layers" of dense, time-distributed-dense, conv1d, conv2d, gru, lstm, prelu,
          batchnorm, batchnorm2d and activation; convolutions look back alone, as they do there. Or a PyTorch state
          dictionary of recurrent layers and one linear layer.
        - AIDA-X: the same with "in_skip", "in_gain" and "out_gain" in dB. Where there are "input_batch" and
          "output_batch", the model without gains and with knobs at 0 has to answer so, within 1e-5 plus 1e-4 of the
          largest answer.
        - GuitarML: "model_data" of a SimpleRNN with "state_dict"; the first `skip` inputs are added to the output.

        - path: up to 64 MiB of JSON
        - dtype: of the matrices, as for :meth:`astype`
        - isa: the instruction-set tier, as for a model

        Raises UnsupportedError that names the file, the key and what is supported for what is known and not honoured,
        or not known; ValueError likewise for what is missing, does not fit, or is not a finite float32, and for a model
        that fails the file's own test; OSError for a file that cannot be read.
        """
        return cls._of_source("amplifiers.model", path, dtype=dtype, isa=isa)

    def to_onnx(self, path: Path | None = None) -> ModelProto:
        """An ``onnx.ModelProto`` that computes what the model does, written to `path` too, as by ``save``, if given.

        Its inputs and outputs have the model's names and, with a batch, its shapes: float32, or int64 tokens, arranged
        as :attr:`~fusedcell.Model.axes` says, with any length and batch. Each node becomes operators of operator set
        17, the last of which has the node's name for its output, and each recurrent layer RNN, GRU or LSTM operators
        that start from the layer's initial state.

        Weights are float32: those that are half-width or int8 are what they stand for, and all is computed in float32.
        There are no lengths: a batch is of whole sequences of one length, which gives each node a row at least. Of
        shorter ones a runtime may make an error, or a pool's row of what is not there. Where ONNX Runtime departs from
        the operators' text otherwise (LSTM's clip, ThresholdedRelu in a layer), so does its answer.

        Raises UnsupportedError that names the node, for what ONNX cannot express: a projection, clip with
        clip_before_h=False, and weights of 2 GiB and more; ImportError without the package onnx
        (``pip install fusedcell[onnx]``).
        """
        return import_module(".convert.onnx.from_model", __package__).to_onnx_model(self, path)
