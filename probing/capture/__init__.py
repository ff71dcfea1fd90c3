"""Capture: a model, batches, sites and spans become an ActivationStore; resumable, written while the model runs."""

from probing.capture.loop import CaptureBatch, HookRecorder, Inputs, Pooling, Recorder, capture

__all__ = ["CaptureBatch", "HookRecorder", "Inputs", "Pooling", "Recorder", "capture"]
