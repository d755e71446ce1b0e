"""How much do visual tokens tell a decoder's states? Transfer entropy, with two controls.

A small recurrent decoder reads an image of a digit row by row, each row a visual token, and names the digit. Tokens and
states are clustered, so that both are discrete, and the transfer entropy from tokens to states is estimated on images
the decoder was not trained on.
"""

import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from intensive_callbacks import TransferEntropy

NUM_CODES = 8


class Decoder(nn.Module):
    """Reads one visual token at each step; ``sees=False`` makes it blind."""

    def __init__(self, sees: bool = True) -> None:
        super().__init__()
        self.sees = sees
        self.cell = nn.GRUCell(8, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """The states before the first token and after each, ``[N, T + 1, 32]``."""
        state = tokens.new_zeros(len(tokens), 32)
        states = [state]
        for token in tokens.unbind(1):
            state = self.cell(token if self.sees else torch.zeros_like(token), state)
            states.append(state)
        return torch.stack(states, 1)


def train(decoder: Decoder, tokens: Tensor, digits: Tensor) -> None:
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=0.01)
    for _ in range(60):
        loss = F.cross_entropy(decoder.head(decoder(tokens)[:, -1]), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def codes(vectors: Tensor) -> Tensor:
    """The cluster of each vector, ``[N, T]``."""
    clusters = KMeans(NUM_CODES, n_init=1, random_state=0).fit_predict(vectors.flatten(0, 1).numpy())
    return torch.as_tensor(clusters).reshape(vectors.shape[:2]).long()


def transfer(tokens: Tensor, states: Tensor) -> TransferEntropy:
    """From the token read at a step to the state after it."""
    metric = TransferEntropy(NUM_CODES, NUM_CODES)
    none = torch.full_like(tokens[:, :1], -1)  # no token is read after the last state
    metric.update(torch.cat([tokens, none], 1), states)
    return metric


def main() -> None:
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    tokens = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 8, 8) / 16
    digits = torch.as_tensor(digits)
    order = torch.randperm(len(tokens))
    seen, held_out = order[:900], order[900:]

    print("Transfer entropy from visual tokens to decoder states, on held-out images")
    print(f"{'bits per step':32}{'corrected':>10}{'plain':>8}{'p':>8}{'accuracy':>10}")
    for name, sees in (("trained decoder", True), ("decoder that sees nothing", False)):
        decoder = Decoder(sees)
        train(decoder, tokens[seen], digits[seen])
        with torch.no_grad():
            states = decoder(tokens[held_out])
            accuracy = (decoder.head(states[:, -1]).argmax(-1) == digits[held_out]).float().mean()
        if not sees:
            # Its states differ by step alone: noise makes clusters of them, about which tokens tell nothing.
            states = states + 0.5 * torch.randn_like(states)
        visual, internal = codes(tokens[held_out]), codes(states)
        rows = {name: visual}
        if sees:
            rows["  with another image's tokens"] = visual[torch.randperm(len(visual))]
        for row, source in rows.items():
            metric = transfer(source, internal)
            plain = TransferEntropy(NUM_CODES, NUM_CODES, correction="none")
            plain.merge_state(metric)
            print(f"{row:32}{metric.compute():10.4f}{plain.compute():8.4f}{metric.p_value(199):8.3f}{accuracy:10.3f}")
    print("Another image's tokens still tell the place in the sequence, a common cause: the first row less the second")
    print("is what the image itself tells. The plain estimate gives a decoder that sees nothing something to see.")


if __name__ == "__main__":
    main()
