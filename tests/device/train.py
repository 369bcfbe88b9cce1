"""A small training loop on the first GPU: parameters, gradients, optimiser state, activations."""

import torch

model = torch.nn.Sequential(
    torch.nn.Linear(1024, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 1024)
).cuda()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(20):
    data = torch.randn(256, 1024, device="cuda")
    loss = torch.nn.functional.mse_loss(model(data), data)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.cuda.synchronize()
print(f"allocated {torch.cuda.memory_allocated()} reserved {torch.cuda.memory_reserved()}")
