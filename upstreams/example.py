"""A stranger's upstream, whole: `superbench run -p upstreams/example.py -u spectrum ...`."""

from superbench.plugin import Layers, UpstreamSpec, hookimpl

def load(options, device):
    import torch
    class Spectrum:
        sample_rate, strides, widths = 16000, (160,), (201,)  # one stride and one width per layer
        def num_frames(self, samples): return max(0, (samples - 400) // 160 + 1)
        def __call__(self, waves):  # float tensors [n] -> one Layers each, of tensors [T, D]
            return [Layers((torch.fft.rfft(w.unfold(0, 400, 160)).abs().log1p(),)) for w in waves]
    return Spectrum()

@hookimpl
def superbench_upstreams():
    yield UpstreamSpec(name="spectrum", load=load, summary="log magnitude spectrum")
