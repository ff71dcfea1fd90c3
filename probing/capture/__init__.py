"""Capture: a model, batches, sites and spans become an ActivationStore; resumable, written while the model runs."""

from probing.capture.batches import CaptureBatch, Inputs, Pooling
from probing.capture.loop import HookRecorder, Recorder, capture

__all__ = ["CaptureBatch", "HookRecorder", "Inputs", "Pooling", "Recorder", "capture"]
