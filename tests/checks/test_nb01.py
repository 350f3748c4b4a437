"""Answers to the exercises of 01_latent_spaces."""

import torch
import torch.nn.functional as F
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from torch import nn

from cfxnb.checks import nb01
from cfxnb.core.prediction import predict_logits
from cfxnb.core.types import Code
from cfxnb.solutions import nb01 as solutions


def mix_by_broadcasting(a, b, n):
    w = torch.linspace(0, 1, n).view(-1, *[1] * a.ndim)
    return (1 - w) * a + w * b


def mix_in_a_loop(a, b, n):
    points = []
    for i in range(n):
        points.append(a + (b - a) * i / (n - 1))
    return torch.stack(points)


def certain_in_a_loop(judge, images):
    total = 0.0
    for row in predict_logits(judge, images):
        total += row.softmax(0).max().item()
    return total / len(images)


def linear(centre=True, decode_mean=True, stretch=False, clamp=True, wrap=True, order=1, raw=False):
    """The answer to exercise 3, with mistakes."""

    class Space:
        def __init__(self, images, k):
            rows = images.flatten(1)
            self.m = rows.mean(0)
            parts = torch.linalg.svd(rows if not centre else rows - self.m, full_matrices=False)
            self.v = parts.Vh[:k] if order == 1 else parts.Vh[-k:]
            self.s = parts.S[:k]
            z = self.project(images)
            self.mean, self.std = z.mean(0), z.std(0) ** (2 if raw else 1)

        def project(self, images):
            z = (images.flatten(1) - (self.m if centre else 0)) @ self.v.T
            return z / self.s if stretch else z

        def encode(self, images):
            return Code(self.project(images)) if wrap else self.project(images)

        def decode(self, code):
            rows = code.z @ self.v + (self.m if decode_mean else 0)
            rows = rows.clamp(0, 1) if clamp else rows
            return rows.view(-1, 1, 32, 32)

    return Space


class LinearByCovariance:
    def __init__(self, images, k):
        flat = images.reshape(len(images), -1)
        self.centre = flat.mean(dim=0, keepdim=True)
        _, vectors = torch.linalg.eigh(torch.cov(flat.T))
        self.basis = vectors.flip(1)[:, :k]
        z = (flat - self.centre) @ self.basis
        self.mean = torch.zeros(k)
        self.std = z.std(dim=0)

    def encode(self, images):
        return Code((images.reshape(len(images), -1) - self.centre) @ self.basis)

    def decode(self, code):
        return torch.clamp(code.z @ self.basis.T + self.centre, 0, 1).reshape(-1, 1, 32, 32)


class Encoder(nn.Module):
    def __init__(self, dims, hidden):
        super().__init__()
        self.first = nn.Linear(1024, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, dims), nn.Linear(hidden, dims)

    def forward(self, x):
        h = self.first(x.flatten(1)).relu()
        return torch.cat([self.mean(h), self.log_variance(h)], 1)


class Decoder(nn.Module):
    def __init__(self, dims, hidden):
        super().__init__()
        self.first, self.last = nn.Linear(dims, hidden), nn.Linear(hidden, 1024)

    def forward(self, z):
        return self.last(F.relu(self.first(z))).view(-1, 1, 32, 32)


def networks(outputs=2, active=True, end=None, image=True, hidden=None, decoder_end=None):
    """The answer to exercise 4, with mistakes."""

    def answer(dims, width):
        h = hidden or width
        between = [nn.ReLU()] if active else []
        encoder = [nn.Flatten(), nn.Linear(1024, h), *between, nn.Linear(h, outputs * dims)]
        decoder = [nn.Linear(dims, h), *between, nn.Linear(h, 1024)]
        decoder += [decoder_end()] if decoder_end else []
        decoder += [nn.Unflatten(1, (1, 32, 32))] if image else []
        return nn.Sequential(*encoder, *([end()] if end else [])), nn.Sequential(*decoder)

    return answer


def halves(encoder, images):
    return encoder(images).chunk(2, 1)


def lossy(beta=None, weight="kl", reduce="mean", sample=True, swap=False, kl="sum", detach=False):
    """The answer to exercise 8, with mistakes."""

    def answer(encoder, decoder, images, noise, b):
        mean, log_variance = halves(encoder, images)
        if swap:
            mean, log_variance = log_variance, mean
        z = mean + (0.5 * log_variance).exp() * noise if sample else mean
        if detach:
            z = z.detach()
        error = F.binary_cross_entropy_with_logits(decoder(z), images, reduction="none")
        error = error.flatten(1).sum(1)
        each = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        price = each.sum(1) if kl == "sum" else each.mean(1)
        b = b if beta is None else beta
        total = {"kl": error + b * price, "error": b * error + price, "no error": b * price}[weight]
        return total if reduce == "none" else getattr(total, reduce)()

    return answer


def loss_image_by_image(encoder, decoder, images, noise, beta=1.0):
    total = 0
    for x, e in zip(images, noise, strict=True):
        out = encoder(x[None])[0]
        mean, log_variance = out[: len(out) // 2], out[len(out) // 2 :]
        z = mean + torch.exp(log_variance / 2) * e
        total = total + F.binary_cross_entropy_with_logits(decoder(z[None])[0], x, reduction="sum")
        total = total - beta * 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return total / len(images)


def trained(
    own="g", noise="fresh", rows="fresh", zero=True, both=True, optimiser="adam", sign=1,
    store="item", use_beta=True, use_seed=True, use_lr=True, size=None, pool=None, ends=0,
    step=True,
):  # fmt: skip
    """The answer to exercise 9, with mistakes."""

    def answer(encoder, decoder, images, steps, dims, batch_size, lr, beta, seed):
        g = torch.Generator().manual_seed(seed if use_seed else 0)
        parameters = [*encoder.parameters(), *(decoder.parameters() if both else [])]
        kind = torch.optim.Adam if optimiser != "sgd" else torch.optim.SGD
        moving = kind(parameters, lr=lr if use_lr else 1e-3)
        n = size or batch_size
        losses = []
        draw = {"same": torch.randn(n, dims, generator=g)}
        chosen = torch.randint(len(images), (n,), generator=g)
        for _ in steps:
            if optimiser == "fresh":
                moving = kind(parameters, lr=lr)
            if rows == "fresh":
                chosen = torch.randint(pool or len(images), (n,), generator=g)
            if rows == "global":
                chosen = torch.randint(len(images), (n,))
            draw["fresh"] = torch.randn(n, dims, generator=g)
            draw["zero"] = torch.zeros(n, dims)
            draw["uniform"] = torch.rand(n, dims, generator=g)
            draw["shared"] = torch.randn(1, dims, generator=g).expand(n, dims)
            b = beta if use_beta else 1.0
            loss = solutions.vae_loss(encoder, decoder, images[chosen], draw[noise], b)
            if zero:
                moving.zero_grad()
            (sign * loss).backward()
            if step:
                moving.step()
            stored = {"item": loss.item(), "tensor": loss.detach(), "mean": loss.item() / n}
            losses.append(stored[store])
        return losses[-1] if ends else losses

    return answer


def train_with_a_permutation(
    encoder, decoder, images, steps, dims=20, batch_size=128, lr=2e-3, beta=1.0, seed=0
):
    torch.manual_seed(seed)
    both = nn.ModuleList([encoder, decoder])
    adam = torch.optim.Adam(both.parameters(), lr)
    losses = []
    for _ in steps:
        adam.zero_grad(set_to_none=True)
        batch = images[torch.randperm(len(images))[:batch_size]]
        loss = solutions.vae_loss(encoder, decoder, batch, torch.randn(batch_size, dims), beta)
        loss.backward()
        adam.step()
        losses += [float(loss.detach())]
    return losses


def train_with_own_gradients(
    encoder, decoder, images, steps, dims=20, batch_size=128, lr=2e-3, beta=1.0, seed=0
):
    g = torch.Generator().manual_seed(seed)
    parameters = list(encoder.parameters()) + list(decoder.parameters())
    adam, losses = torch.optim.Adam(parameters, lr=lr), []
    for _ in steps:
        rows = (torch.rand(batch_size, generator=g) * len(images)).long()
        noise = torch.empty(batch_size, dims).normal_(generator=g)
        loss = solutions.vae_loss(encoder, decoder, images[rows], noise, beta)
        for p, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = slope
        adam.step()
        losses.append(loss.item())
    return losses


def own_space(part=0, noise=False, sigmoid=True, wrap=True, both=False, no_grad=False, std=1):
    """The answer to exercise 10, with mistakes."""

    class Space:
        def __init__(self, encoder, decoder, images):
            self.encoder, self.decoder = encoder, decoder
            z = self.codes(images)
            self.mean, self.std = z.mean(0), z.std(0) ** std

        def codes(self, images):
            out = self.encoder(images).detach()
            parts = out.chunk(2, 1)
            z = out if both else parts[part]
            return z + torch.randn_like(z) if noise else z

        def encode(self, images):
            return Code(self.codes(images)) if wrap else self.codes(images)

        def decode(self, code):
            out = self.decoder(code.z)
            out = out.sigmoid() if sigmoid else out
            return out.detach() if no_grad else out

    return Space


class SpaceOfIndices:
    def __init__(self, encoder, decoder, images):
        self.nets = encoder, decoder
        with torch.no_grad():
            out = encoder(images)
        self.dims = out.shape[1] // 2
        self.std, self.mean = torch.std_mean(out[:, : self.dims], dim=0)

    @torch.no_grad()
    def encode(self, images):
        return Code(z=self.nets[0](images)[:, : self.dims])

    def decode(self, code):
        return 1 / (1 + torch.exp(-self.nets[1](code.z)))


class SpaceWithoutReturn(SpaceOfIndices):
    def encode(self, images):
        self.z = self.nets[0](images)[:, : self.dims]


def measured(error="mse", kept=1, codes="both", asked="judge", count=3, last="random"):
    """The answer to exercise 11, with mistakes."""

    def answer(space, classifier, judge, images, noise):
        rebuilt = space.decode(space.encode(images))
        z = {
            "both": space.mean + space.std * noise,
            "raw": noise,
            "no mean": space.std * noise,
            "no std": space.mean + noise,
        }[codes]
        random = {"random": space.decode(Code(z)), "rebuilt": rebuilt}[last]
        squared = (rebuilt - images) ** 2
        errors = {
            "mse": squared.mean(),
            "sum": squared.flatten(1).sum(1).mean(),
            "abs": squared.sqrt().mean(),
            "per image": squared.mean((1, 2, 3)),
        }
        same = classifier(images).argmax(1) == classifier(rebuilt).argmax(1)
        fraction = same.double().mean()
        network = judge if asked == "judge" else classifier
        sure = network(random).softmax(1).amax(1).mean()
        return (errors[error], fraction if kept else 1 - fraction, sure)[:count]

    return answer


def measure_by_counting(space, classifier, judge, images, noise):
    rebuilt = torch.cat([space.decode(space.encode(x[None])) for x in images])
    error = F.mse_loss(rebuilt, images).item()
    pairs = zip(
        predict_logits(classifier, images), predict_logits(classifier, rebuilt), strict=True
    )
    kept = sum(int(a.argmax() == b.argmax()) for a, b in pairs)
    z = torch.stack([space.mean + space.std * e for e in noise])
    return [error, kept / len(images), solutions.certainty(judge, space.decode(Code(z)))]


def neighbours(largest=False, unit=True, of="codes", k=None, average="images", reduce=True):
    """The answer to exercise 12, with mistakes."""

    def answer(space, images, known, n):
        a, b = (space.encode(x).z / (space.std if unit else 1) for x in (images, known))
        if of == "pixels":
            a, b = images.flatten(1), known.flatten(1)
        places = torch.cdist(a, b).topk(k or n, largest=largest).indices
        shown = known if average == "images" else space.decode(space.encode(known))
        return shown[places].mean(1) if reduce else shown[places]

    return answer


def neighbours_by_sorting(space, images, known, k=30):
    a, b = space.encode(images).z, space.encode(known).z
    found = []
    for row in a:
        distance = (((b - row) / space.std) ** 2).sum(1)
        found.append(known[distance.argsort()[:k]].mean(0))
    return torch.stack(found)


def active(reduce="mean", swap=False, sign=1, level=None, gradient=False, pair=True):
    """The answer to exercise 13, with mistakes."""

    def answer(encoder, images, threshold):
        mean, log_variance = halves(encoder, images)
        if swap:
            mean, log_variance = log_variance, mean
        price = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        price = price if reduce == "none" else getattr(price, reduce)(0)
        price = price if gradient else price.detach()
        marks = price > (threshold if level is None else level)
        return (price, marks if sign > 0 else ~marks) if pair else price

    return answer


def active_by_gt(encoder, images, threshold=0.1):
    with torch.no_grad():
        out = encoder(images)
        n = out.shape[1] // 2
        m, v = out[:, :n], out[:, n:]
        price = torch.stack(
            [((m[:, j] ** 2 + v[:, j].exp() - 1 - v[:, j]) / 2).mean() for j in range(n)]
        )
    return [price, price.gt(threshold)]


def moved(change):
    """The answer to exercise 14 that does ``change(codes, j, moves, std)`` to copies of z."""

    def answer(space, z, j, moves):
        codes = z.repeat(len(moves), 1)
        change(codes, j, moves, space.std)
        return space.decode(Code(codes))

    return answer


def add(codes, j, moves, std):
    codes[:, j] += moves * std[j]


def add_without_unit(codes, j, moves, std):
    codes[:, j] += moves


def subtract(codes, j, moves, std):
    codes[:, j] -= moves * std[j]


def replace(codes, j, moves, std):
    codes[:, j] = moves * std[j]


def add_to_all(codes, j, moves, std):
    codes += moves[:, None] * std


def add_to_the_next(codes, j, moves, std):
    codes[:, j + 1] += moves * std[j + 1]


def add_up(codes, j, moves, std):
    codes[:, j] += (moves * std[j]).cumsum(0)


def traverse_one_hot(space, z, j, moves):
    return space.decode(Code(z + (moves * space.std[j])[:, None] * torch.eye(len(z))[j]))


def traverse_in_a_loop(space, z, j, moves):
    images = []
    for t in moves.tolist():
        code = z.clone()
        code[j] += t * space.std[j]
        images.append(space.decode(Code(code[None])))
    return torch.cat(images)


def traverse_in_place(space, z, j, moves):
    images = []
    for t in moves.tolist():
        z[j] += t * space.std[j]
        images.append(space.decode(Code(z[None].clone())))
    return torch.cat(images)


def errors(space, x):
    return (space.decode(space.encode(x)) - x).square().mean((1, 2, 3))


def unfamiliar_by_sorting(space, images, familiar, level=0.95):
    ranked, place = errors(space, familiar).sort().values, level * (len(familiar) - 1)
    low = int(place)
    limit = torch.lerp(ranked[low], ranked[min(low + 1, len(ranked) - 1)], place - low)
    return torch.stack([e > limit for e in errors(space, images)])


def unfamiliar_by_root(space, images, familiar, level=0.95):
    near, far = (
        (x - space.decode(space.encode(x))).flatten(1).norm(dim=1) for x in (familiar, images)
    )
    return far**2 > torch.quantile(near**2, level)


def bce(logits, images):
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none")


def divergence(m, v):
    return 0.5 * (m**2 + v.exp() - 1 - v)


def no_gradient(m, v, e):
    with torch.no_grad():
        return m + (0.5 * v).exp() * e


TABLE = {
    "mix": Answers(
        right={
            "solution": solutions.mix,
            "broadcasting": mix_by_broadcasting,
            "loop": mix_in_a_loop,
        },
        wrong={
            "backwards": (lambda a, b, n: solutions.mix(b, a, n), "the line runs from b to a"),
            "last missing": (lambda a, b, n: solutions.mix(a, b, n + 1)[:-1], "not from a to b"),
            "middle only": (lambda a, b, n: (a + b) / 2, "5 points, shape (5, 2)"),
            "jump": (
                lambda a, b, n: torch.stack([a] * (n - 1) + [b]),
                "not evenly spaced",
            ),
            "flattened": (
                lambda a, b, n: solutions.mix(a.flatten(), b.flatten(), n),
                "two points of the shape (3, 1, 4, 4)",
            ),
        },
    ),
    "certainty": Answers(
        right={
            "solution": solutions.certainty,
            "max": lambda f, x: predict_logits(f, x).softmax(dim=1).max(dim=1).values.mean().item(),
            "loop": certain_in_a_loop,
        },
        wrong={
            "logits": (lambda f, x: float(f(x).amax(1).mean()), "the mean is that of the logits"),
            "all classes": (lambda f, x: float(f(x).softmax(1).mean()), "over all classes"),
            "most certain": (lambda f, x: float(f(x).softmax(1).max()), "the most certain image"),
            "first image": (lambda f, x: float(f(x).softmax(1)[0].max()), "only the first image"),
            "over the batch": (lambda f, x: float(f(x).softmax(0).amax(1).mean()), "of all images"),
            "per image": (lambda f, x: f(x).softmax(1).amax(1), "expected one number"),
            "smallest": (lambda f, x: float(f(x).softmax(1).amin(1).mean()), "expected 0."),
        },
    ),
    "LinearSpace": Answers(
        right={
            "solution": solutions.LinearSpace,
            "flags": linear(),
            "covariance": LinearByCovariance,
        },
        wrong={
            "no code": (linear(wrap=False), "encode: expected a cfx.Code"),
            "not centred": (linear(centre=False), "do not have mean 0"),
            "smallest": (linear(order=-1), "not those of largest variance"),
            "stretched": (linear(stretch=True), "the codes are stretched"),
            "variance": (linear(raw=True), "std is not that of the codes"),
            "no mean image": (linear(decode_mean=False), "lack the mean image"),
            "not clamped": (linear(clamp=False), "outside [0, 1]"),
        },
    ),
    "make_networks": Answers(
        right={
            "solution": solutions.make_networks,
            "classes": lambda dims, hidden: (Encoder(dims, hidden), Decoder(dims, hidden)),
            "list": lambda dims, hidden: list(networks()(dims, hidden)),
        },
        wrong={
            "one number per coordinate": (networks(outputs=1), "returns 7 numbers per image"),
            "three": (networks(outputs=3), "encoder: shape (5, 14)"),
            "linear": (networks(active=False), "the encoder is a linear function"),
            "relu at the end": (networks(end=nn.ReLU), "the encoder never returns a negative"),
            "sigmoid in the decoder": (
                networks(decoder_end=nn.Sigmoid),
                "the decoder never returns a negative number",
            ),
            "tanh in the decoder": (
                networks(decoder_end=nn.Tanh),
                "the decoder never returns a number above 1",
            ),
            "flat": (networks(image=False), "decoder: shape (5, 1, 32, 32)"),
            "fixed width": (networks(hidden=400), "no layer has 33 hidden units"),
            "encoder only": (lambda d, h: networks()(d, h)[0], "encoder and decoder"),
            "functions": (lambda d, h: (lambda x: x, lambda z: z), "expected two modules"),
        },
    ),
    "sample_code": Answers(
        right={
            "solution": solutions.sample_code,
            "root of the variance": lambda m, v, e: m + v.exp().sqrt() * e,
            "addcmul": lambda m, v, e: torch.addcmul(m, torch.exp(v / 2), e),
        },
        wrong={
            "no std": (lambda m, v, e: m + e, "keeps its standard deviation of 1"),
            "variance": (lambda m, v, e: m + v.exp() * e, "multiplied by the variance"),
            "log variance": (lambda m, v, e: m + v * e, "multiplied by a logarithm"),
            "half": (lambda m, v, e: m + 0.5 * v * e, "half of a logarithm"),
            "sign": (lambda m, v, e: m - (0.5 * v).exp() * e, "the noise is subtracted"),
            "no mean": (lambda m, v, e: (0.5 * v).exp() * e, "the mean is missing"),
            "own noise": (
                lambda m, v, e: m + (0.5 * v).exp() * torch.randn_like(m),
                "the same noise gives another result",
            ),
            "summed": (lambda m, v, e: solutions.sample_code(m, v, e).sum(1), "shape (1, 2)"),
            "inverse": (lambda m, v, e: m + (-0.5 * v).exp() * e, "expected -4.718"),
            "std detached": (
                lambda m, v, e: m + (0.5 * v).exp().detach() * e,
                "no gradient flows",
            ),
            "no_grad": (no_gradient, "no gradient flows"),
        },
    ),
    "reconstruction_term": Answers(
        right={
            "solution": solutions.reconstruction_term,
            "torch": lambda a, x: bce(a, x).sum((1, 2, 3)),
            "logsigmoid": lambda a, x: (
                -(x * F.logsigmoid(a) + (1 - x) * F.logsigmoid(-a)).flatten(1).sum(1)
            ),
        },
        wrong={
            "one number": (lambda a, x: bce(a, x).sum(), "one number per image"),
            "per pixel": (bce, "one number per image"),
            "mean": (lambda a, x: bce(a, x).mean((1, 2, 3)), "averaged over pixels"),
            "sign": (lambda a, x: -bce(a, x).sum((1, 2, 3)), "the sign is wrong"),
            "white only": (
                lambda a, x: -(x * a.sigmoid().log()).flatten(1).sum(1),
                "only white pixels count",
            ),
            "squared error": (
                lambda a, x: ((a.sigmoid() - x) ** 2).flatten(1).sum(1),
                "the squared error",
            ),
            "squared logits": (
                lambda a, x: ((a - x) ** 2).flatten(1).sum(1),
                "count as probabilities",
            ),
            "softplus only": (
                lambda a, x: F.softplus(a).flatten(1).sum(1),
                "softplus of the logits alone",
            ),
            "second sign": (
                lambda a, x: (F.softplus(a) + x * a).flatten(1).sum(1),
                "sign of the second part",
            ),
            "sigmoid twice": (
                lambda a, x: bce(a.sigmoid(), x).sum((1, 2, 3)),
                "for the first image expected",
            ),
            "overflow": (
                lambda a, x: ((1 + a.exp()).log() - x * a).flatten(1).sum(1),
                "expected 800, got inf",
            ),
            "logs of probabilities": (
                lambda a, x: (
                    -(x * a.sigmoid().log() + (1 - x) * (1 - a.sigmoid()).log()).flatten(1).sum(1)
                ),
                "expected 800, got",
            ),
        },
    ),
    "kl_term": Answers(
        right={
            "solution": solutions.kl_term,
            "as often printed": lambda m, v: -0.5 * (1 + v - m.square() - v.exp()),
            "torch": lambda m, v: torch.distributions.kl_divergence(
                torch.distributions.Normal(m, (0.5 * v).exp()), torch.distributions.Normal(0.0, 1.0)
            ),
        },
        wrong={
            "summed": (lambda m, v: divergence(m, v).sum(1), "image and coordinate, shape (4, 3)"),
            "sign": (lambda m, v: -divergence(m, v), "a negative value"),
            "half": (lambda m, v: 2 * divergence(m, v), "one half is missing"),
            "std": (lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v), "the standard deviation"),
            "variance twice": (
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v.exp()),
                "the variance and its logarithm cancel",
            ),
            "no exponential": (
                lambda m, v: 0.5 * (m**2 + v - 1 - v),
                "the variance and its logarithm cancel",
            ),
            "log sign": (lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v), "the wrong sign"),
            "not squared": (lambda m, v: 0.5 * (m + v.exp() - 1 - v), "the mean is not squared"),
            "no mean": (lambda m, v: 0.5 * (v.exp() - 1 - v), "the mean does not count"),
            "no one": (lambda m, v: divergence(m, v) + 0.5, "expected 0, got 0.5"),
            "cubed": (lambda m, v: divergence(m, v) + m**3, "in the first coordinate"),
        },
    ),
    "vae_loss": Answers(
        right={
            "solution": solutions.vae_loss,
            "flags": lossy(),
            "image by image": loss_image_by_image,
        },
        wrong={
            "per image": (lossy(reduce="none"), "one number, shape ()"),
            "summed": (lossy(reduce="sum"), "summed over the images"),
            "beta ignored": (lossy(beta=1.0), "weight 1 instead of beta"),
            "no KL term": (lossy(beta=0.0), "the KL term is missing"),
            "rewarded": (lossy(beta=-0.3), "the KL term is rewarded"),
            "no reconstruction": (lossy(weight="no error"), "the reconstruction term is missing"),
            "other weight": (lossy(weight="error"), "beta weights the reconstruction term"),
            "no noise": (lossy(sample=False), "the code is the mean, without noise"),
            "exchanged": (lossy(swap=True), "mean and log variance are exchanged"),
            "averaged": (lossy(kl="mean"), "averaged over coordinates"),
            "a number": (
                lambda *args: lossy()(*args).detach(),
                "the loss has no gradient",
            ),
            "beta doubled": (lossy(beta=0.6), "expected"),
            "detached code": (lossy(detach=True), "not all of the gradient reaches the encoder"),
        },
    ),
    "train": Answers(
        right={
            "solution": solutions.train,
            "permutation": train_with_a_permutation,
            "own gradients": train_with_own_gradients,
        },
        wrong={
            "last loss": (trained(ends=1), "a list of 60 losses"),
            "tensors": (trained(store="tensor"), "expected Python floats"),
            "all images": (trained(size=40), "expected batches of 8 images, got 40"),
            "same images": (trained(rows="same"), "every step uses the same images"),
            "few images": (trained(pool=10), "of the 40 images are ever used"),
            "no noise": (trained(noise="zero"), "there is no noise"),
            "same noise": (trained(noise="same"), "every step uses the same noise"),
            "shared noise": (trained(noise="shared"), "all images of a batch get the same noise"),
            "uniform noise": (trained(noise="uniform"), "the noise has mean 0.4"),
            "no step": (trained(step=False), "the encoder does not change"),
            "encoder only": (trained(both=False), "the decoder does not change"),
            "gradients add up": (trained(zero=False), "the gradients of several steps add up"),
            "uphill": (trained(sign=-1), "the loss does not fall"),
            "SGD": (trained(optimiser="sgd"), "The first step of Adam moves it by 0.01"),
            "own rate": (trained(use_lr=False), "The first step of Adam moves it by 0.01"),
            "fresh optimiser": (trained(optimiser="fresh"), "moves by lr in every step"),
            "other number": (trained(store="mean"), "the list begins with"),
            "beta ignored": (trained(use_beta=False), "beta=50 gives the same loss"),
            "global rows": (trained(rows="global"), "the same seed gives other losses"),
            "seed ignored": (trained(use_seed=False), "another seed gives the same losses"),
        },
    ),
    "MySpace": Answers(
        right={
            "solution": solutions.MySpace,
            "flags": own_space(),
            "indices": SpaceOfIndices,
        },
        wrong={
            "both halves": (own_space(both=True), "z has the shape (50, 6)"),
            "tensor": (own_space(wrap=False), "expected a cfx.Code"),
            "log variance": (own_space(part=1), "the codes are the log variances"),
            "noise": (own_space(noise=True), "two different codes"),
            "variance": (own_space(std=2), "std is not that of the codes"),
            "logits": (own_space(sigmoid=False), "decode returns pixels between"),
            "no gradient": (own_space(no_grad=True), "no gradient flows"),
            "no return": (SpaceWithoutReturn, "encode returned None"),
        },
    ),
    "measure": Answers(
        right={
            "solution": solutions.measure,
            "tensors": measured(),
            "counting": measure_by_counting,
        },
        wrong={
            "two numbers": (measured(count=2), "expected three numbers"),
            "per image": (measured(error="per image"), "expected three numbers, got shapes"),
            "sum": (measured(error="sum"), "the squared error is a sum"),
            "absolute": (measured(error="abs"), "the error is not squared"),
            "changed decisions": (measured(kept=0), "the fraction of decisions that change"),
            "raw draws": (measured(codes="raw"), "standard deviation 1 and mean 0"),
            "no mean": (measured(codes="no mean"), "the random codes have mean 0"),
            "no std": (measured(codes="no std"), "the random codes have standard deviation 1"),
            "reconstructions": (measured(last="rebuilt"), "the judge sees the reconstructions"),
            "classifier": (measured(asked="classifier"), "the classifier is asked"),
            "order": (lambda *args: measured()(*args)[::-1], "but the first number is"),
        },
    ),
    "neighbour_average": Answers(
        right={
            "solution": solutions.neighbour_average,
            "flags": neighbours(),
            "sorting": neighbours_by_sorting,
        },
        wrong={
            "farthest": (neighbours(largest=True), "the farthest, and not the nearest"),
            "no unit": (neighbours(unit=False), "not measured in standard deviations"),
            "pixels": (neighbours(of="pixels"), "measured between pixels"),
            "thirty": (neighbours(k=30), "the number of neighbours is not k"),
            "reconstructions": (neighbours(average="codes"), "the reconstructions are averaged"),
            "no average": (neighbours(reduce=False), "one image per image, shape (5, 1, 4, 4)"),
            "one": (neighbours(k=1), "not the average of the k known images"),
        },
    ),
    "active_coordinates": Answers(
        right={
            "solution": solutions.active_coordinates,
            "detach": active(),
            "loop": active_by_gt,
        },
        wrong={
            "terms only": (active(pair=False), "expected KL terms and active ones"),
            "no mean": (active(reduce="none"), "one KL term per coordinate"),
            "sum": (active(reduce="sum"), "sums over images"),
            "gradient": (active(gradient=True), "carry the graph"),
            "exchanged": (active(swap=True), "mean and log variance are exchanged"),
            "unused": (active(sign=-1), "marks the unused coordinates"),
            "threshold": (active(level=0.1), "with the threshold 0.5 expected"),
            "largest": (active(reduce="amax"), "of the first coordinate is"),
            "numbers": (
                lambda *args: (active()(*args)[0], active()(*args)[0]),
                "expected one bool per coordinate",
            ),
            "std": (
                lambda f, x, t: (halves(f, x)[0].std(0).detach(), torch.ones(4).bool()),
                "standard deviations of codes",
            ),
        },
    ),
    "traverse": Answers(
        right={
            "solution": solutions.traverse,
            "one-hot": traverse_one_hot,
            "loop": traverse_in_a_loop,
        },
        wrong={
            "in place": (traverse_in_place, "handed in has changed"),
            "one image": (
                lambda space, z, j, moves: space.decode(Code(z[None])),
                "one image per step",
            ),
            "all": (moved(add_to_all), "all coordinates move"),
            "next": (moved(add_to_the_next), "another coordinate moves"),
            "no unit": (moved(add_without_unit), "not measured in standard deviations"),
            "replaced": (moved(replace), "replaced by the step"),
            "sign": (moved(subtract), "in the opposite direction"),
            "adding up": (moved(add_up), "the steps add up"),
            "half": (
                lambda space, z, j, moves: moved(add)(space, z, j, moves / 2),
                "two steps lead to 0.7, got 0.60",
            ),
        },
    ),
    "unfamiliar": Answers(
        right={
            "solution": solutions.unfamiliar,
            "sorting": unfamiliar_by_sorting,
            "sums": unfamiliar_by_root,
        },
        wrong={
            "familiar": (lambda *args: ~solutions.unfamiliar(*args), "familiar images are marked"),
            "own limit": (
                lambda space, x, known, level: errors(space, x) > errors(space, x).quantile(level),
                "the limit comes from the images themselves",
            ),
            "level ignored": (
                lambda space, x, known, level: solutions.unfamiliar(space, x, known, 0.95),
                "level is not used",
            ),
            "mean": (
                lambda space, x, known, level: errors(space, x) > errors(space, known).mean(),
                "the limit is the mean error",
            ),
            "largest": (
                lambda space, x, known, level: errors(space, x) > errors(space, known).max(),
                "the limit is the largest error",
            ),
            "wrong side": (
                lambda space, x, known, level: solutions.unfamiliar(space, x, known, 1 - level),
                "the wrong side",
            ),
            "one answer": (
                lambda space, x, known, level: solutions.unfamiliar(space, x, known, level).any(),
                "expected one bool per image",
            ),
            "errors": (lambda space, x, known, level: errors(space, x), "expected one bool"),
            "all": (
                lambda space, x, known, level: errors(space, x) >= 0,
                "of the images are unfamiliar, got 34",
            ),
        },
    ),
}


@right_answers(nb01, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb01, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_there_are_three_styles_of_each_right_answer():
    assert all(len(answers.right) >= 3 for answers in TABLE.values())
    assert len(TABLE) == 15
