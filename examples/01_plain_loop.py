"""The same without Lightning: a Monitor in a plain loop."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from intensive_callbacks import ConsoleSink, FileSink, Monitor

torch.manual_seed(0)
digits = load_digits()
images, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

sinks = [FileSink("demo/plain_loop"), ConsoleSink()]  # and WandbSink(wandb.init(project="..."))
with Monitor(model, every_n_steps=100, random_baseline=0.1, task="digits", benchmark="vision", sinks=sinks) as monitor:
    for step in range(1, 501):
        batch = torch.randint(1500, (64,))
        monitor.observe(images[batch])
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        accuracy = None
        if monitor.is_due(step):
            with monitor.validation(), torch.no_grad():
                accuracy = (model(images[1500:]).argmax(-1) == labels[1500:]).float().mean()
        monitor.log(step, accuracy, num_examples=len(images) - 1500)
monitor.finish()
