"""The official Mobile-Former family, stated anew on a dict of tensors under the official names.

Facts of github.com/AAboys/MobileFormer, in eval mode: expansion ratios, order of layers, names. An
expanding filter is one grouped convolution, whose output o reads input o // expansion.
"""

import torch
import torch.nn.functional as F

# Blocks: kind, expansion, channels, stride. L: bneck-lite, M: stride 1, D: stride 2, in two halves.
FAMILY = {
    '508m': dict(
        stem=24, tokens=(6, 192), hidden=1920, blocks='L2-24-1 D6-40-2 M3-40-1 D6-72-2 M3-72-1 '
        'D6-128-2 M4-128-1 M6-176-1 M6-176-1 D6-240-2 M6-240-1 M6-240-1',
    ),
    '294m': dict(
        stem=16, tokens=(6, 192), hidden=1920, blocks='L2-16-1 D6-24-2 M4-24-1 D6-48-2 M4-48-1 '
        'D6-96-2 M4-96-1 M6-128-1 M6-128-1 D6-192-2 M6-192-1 M6-192-1',
    ),
    '214m': dict(
        stem=12, tokens=(6, 192), hidden=1600, blocks='L2-12-1 D6-20-2 M3-20-1 D6-40-2 M4-40-1 '
        'D6-80-2 M4-80-1 M6-112-1 M6-112-1 D6-160-2 M6-160-1 M6-160-1',
    ),
    '151m': dict(
        stem=12, tokens=(6, 192), hidden=1280, blocks='L2-12-1 D6-16-2 M3-16-1 D6-32-2 M3-32-1 '
        'D6-64-2 M4-64-1 M6-88-1 M6-88-1 D6-128-2 M6-128-1 M6-128-1',
    ),
    '96m': dict(
        stem=12, tokens=(4, 128), hidden=1280, blocks='L2-12-1 D6-16-2 D6-32-2 M3-32-1 '
        'D6-64-2 M4-64-1 M6-88-1 D6-128-2 M6-128-1',
    ),
    '52m': dict(
        stem=8, tokens=(3, 128), hidden=1024, blocks='L3-12-2 M3-12-1 D6-24-2 M3-24-1 '
        'D6-48-2 M4-48-1 M6-64-1 D6-96-2 M6-96-1',
    ),
}  # fmt: skip
FAMILY['26m'] = dict(FAMILY['52m'], groups=4)


class Official:
    """A member of the family with random weights, which are drawn in the first forward pass."""

    def __init__(self, name, classes):
        spec = dict(groups=1) | FAMILY[name]
        self.stem, self.groups, self.hidden = spec['stem'], spec['groups'], spec['hidden']
        self.size_of_tokens, self.classes = spec['tokens'], classes
        parts = [(b[0], *map(int, b[1:].split('-'))) for b in spec['blocks'].split()]
        self.blocks = parts
        self.weights, self.generator = {}, torch.Generator().manual_seed(0)

    def draw(self, name, shape, std=1.0, mean=0.0):
        if name not in self.weights:
            values = torch.randn(shape, dtype=torch.double, generator=self.generator)
            self.weights[name] = values * std + mean
        return self.weights[name]

    # ---- layers: weights are large enough that every softmax, gate and slope matters

    def conv(self, name, x, out, kernel=1, stride=1, groups=1):
        shape = (out, x.shape[1] // groups, kernel, kernel)
        weight = self.draw(f'{name}.weight', shape, (0.6 / (shape[1] * kernel**2)) ** 0.5)
        return F.conv2d(x, weight, None, stride, kernel // 2, 1, groups)

    def norm(self, name, x):
        c = x.shape[1]
        weight, bias = (
            self.draw(f'{name}.weight', (c,), 0.2, 1),
            self.draw(f'{name}.bias', (c,), 0.2),
        )
        mean = self.draw(f'{name}.running_mean', (c,), 0.2)
        var = self.draw(f'{name}.running_var', (c,), 0.1, 1).abs()
        self.weights[f'{name}.running_var'] = var
        self.weights[f'{name}.num_batches_tracked'] = torch.tensor(7)
        return F.batch_norm(x, mean, var, weight, bias)

    def conv_norm(self, names, x, out, **options):
        return self.norm(names[1], self.conv(names[0], x, out, **options))

    def filter(self, names, x, out, stride):
        """Expanding 3 x 3 filter; in groups, its outputs are shuffled."""
        return self.conv_norm(names, x, out, kernel=3, stride=stride, groups=x.shape[1])

    def linear(self, name, x, out):
        weight = self.draw(f'{name}.weight', (out, x.shape[-1]), x.shape[-1] ** -0.5)
        return x @ weight.T + self.draw(f'{name}.bias', (out,), 0.3)

    def layer_norm(self, name, x):
        d = x.shape[-1]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * self.draw(f'{name}.weight', (d,), 0.2, 1) + self.draw(f'{name}.bias', (d,), 0.2)

    def shuffle(self, x, groups):
        """Channel i of group g moves to place i * groups + g."""
        if self.groups == 1:
            return x
        size = x.shape[1] // groups
        return x[:, [g * size + i for i in range(size) for g in range(groups)]]

    def dynamic_relu(self, name, x, tokens):
        hidden = self.linear(f'{name}.hyper.0', tokens[:, 0], tokens.shape[2] // 4).relu()
        score = F.relu6(self.linear(f'{name}.hyper.2', hidden, 2 * x.shape[1]) + 3) / 6
        first, second = score[:, :, None, None].split(x.shape[1], 1)
        return torch.max((2 * (first - 0.5) + 1) * x, 2 * (second - 0.5) * x)

    # ---- parts of a block

    def attend(self, queries, keys, values, heads):
        """(N, L, C), (N, K, C), (N, K, C) -> (N, L, C)."""
        parts = []
        for q, k, v in zip(*(t.chunk(heads, 2) for t in (queries, keys, values)), strict=True):
            parts.append((q @ k.mT * q.shape[2] ** -0.5).softmax(2) @ v)
        return torch.cat(parts, 2)

    def read(self, name, x, tokens):
        """Mobile -> Former."""
        rows = x.flatten(2).mT  # (N, HW, C)
        got = self.attend(self.linear(f'{name}.q', tokens, x.shape[1]), rows, rows, 2)
        gate = 2 * F.relu6(self.linear(f'{name}.alpha.0', tokens, x.shape[1]) + 3) / 6
        tokens = tokens + self.linear(f'{name}.proj', got * gate, tokens.shape[2])
        return self.layer_norm(f'{name}.layer_norm', tokens)

    def former(self, name, z):
        d = z.shape[2]
        got = self.attend(self.linear(f'{name}.q', z, d), z, z, 4)
        z = z + self.linear(f'{name}.channel_mlp', got, d)
        z = self.layer_norm(f'{name}.layer_norm', z)
        hidden = F.gelu(self.linear(f'{name}.ffn.0', z, 2 * d))
        return self.layer_norm(f'{name}.ffn_norm', z + self.linear(f'{name}.ffn.2', hidden, d))

    def write(self, name, x, tokens):
        """Former -> Mobile."""
        keys, values = (self.linear(f'{name}.{part}', tokens, x.shape[1]) for part in ('k', 'proj'))
        got = self.attend(x.flatten(2).mT, keys, values, 2)
        return x + got.mT.reshape(x.shape)

    def block(self, name, kind, expansion, out, stride, x, z):
        c, g, given = x.shape[1], self.groups, x
        names = {i: (f'{name}.conv{i}.0', f'{name}.conv{i}.1') for i in (1, 2, 3, 4)}
        if kind == 'L':
            x = F.relu6(self.filter((f'{name}.conv.0', f'{name}.conv.1'), x, c * expansion, stride))
            lite = f'{name}.conv.4', f'{name}.conv.5'
            x = self.conv_norm(lite, self.shuffle(x, c), out, groups=g)
            return (x + given if x.shape == given.shape else x), z
        z = self.read(f'{name}.local_global', x, z)
        z = self.former(f'{name}.global_block', z)
        if kind == 'M':
            x = self.shuffle(self.conv_norm(names[1], x, c * expansion, groups=g), g)
            x = self.dynamic_relu(f'{name}.hyper1', x, z)
            x = self.dynamic_relu(f'{name}.hyper2', self.filter(names[2], x, x.shape[1], 1), z)
            x = self.shuffle(self.conv_norm(names[3], x, out, groups=g), g)
            x = x + given if x.shape == given.shape else x
        else:
            x = self.shuffle(self.filter(names[1], x, c * expansion, stride), c)
            x = self.dynamic_relu(f'{name}.hyper1', x, z)
            middle = self.conv_norm(names[2], x, out, groups=g)
            x = self.shuffle(self.filter(names[3], middle, 4 * out, 1), out)
            x = self.dynamic_relu(f'{name}.hyper3', x, z)
            x = middle + self.conv_norm(names[4], x, out, groups=g)
        return self.write(f'{name}.global_local', x, z), z

    # ---- the network

    def __call__(self, x):
        """Images (N, 3, H, W) -> (maps after every block and the final 1x1, tokens, logits)."""
        z = self.draw('tokens.weight', self.size_of_tokens).expand(len(x), -1, -1)
        x = F.relu6(self.conv_norm(('stem.0', 'stem.1'), x, self.stem, kernel=3, stride=2))
        maps = []
        for i, block in enumerate(self.blocks):
            x, z = self.block(f'features.{i}', *block, x, z)
            maps.append(x)
        z = self.read('local_global', x, z)
        last = 'classifier.conv.1', 'classifier.conv.2'
        x = self.shuffle(x, self.groups)
        x = F.relu6(self.conv_norm(last, x, 6 * x.shape[1], groups=self.groups))
        maps.append(x)
        pooled = x.mean((2, 3))
        features = torch.cat((pooled * F.relu6(pooled + 3) / 6, z[:, 0]), 1)
        hidden = self.linear('classifier.fc.0', features, self.hidden)
        hidden = self.norm('classifier.fc.1', hidden)
        hidden = hidden * F.relu6(hidden + 3) / 6
        return maps, z, self.linear('classifier.classifier.1', hidden, self.classes)
