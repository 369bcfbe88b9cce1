"""A small training loop on the first GPU: parameters, gradients, optimiser state, activations.

With an argument it never ends, and gives its cache back after each step: the next one allocates.
"""

import itertools
import sys

import torch

model = torch.nn.Sequential(
    torch.nn.Linear(1024, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 1024)
).cuda()
optimizer = torch.optim.Adam(model.parameters())
endless = len(sys.argv) > 1
for step in itertools.count() if endless else range(20):
    data = torch.randn(256, 1024, device="cuda")
    loss = torch.nn.functional.mse_loss(model(data), data)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if endless:
        torch.cuda.empty_cache()
    if step == 2:
        print("training", flush=True)
torch.cuda.synchronize()
print(f"allocated {torch.cuda.memory_allocated()} reserved {torch.cuda.memory_reserved()}")
