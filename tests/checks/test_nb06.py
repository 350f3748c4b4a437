"""Answers to the exercises of 06_diffusion_autoencoders."""

import functools
import itertools
import math

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb06
from cfxnb.core import ddim
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code
from cfxnb.solutions import nb06 as solutions


def guessed(noisy, eps, alpha_bar):
    return ((noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)


def implied(noisy, image, alpha_bar):
    return (noisy - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5


def mixed(image, noise, alpha_bar_next):
    return alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * noise


def stepped(noisy, eps, alpha_bar, alpha_bar_next):
    image = guessed(noisy, eps, alpha_bar)
    return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next)


def by_the_package(noisy, eps, alpha_bar, alpha_bar_next):
    alphas = torch.tensor([alpha_bar_next, alpha_bar], dtype=torch.float64)
    return ddim.step(lambda *_: eps, noisy, alphas, 1, -1 if alpha_bar_next == 1 else 0)


def with_math(noisy, eps, alpha_bar, alpha_bar_next):
    image = (noisy - eps * math.sqrt(1 - alpha_bar)).div(math.sqrt(alpha_bar)).clip(-1, 1)
    ratio = math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar))
    return math.sqrt(alpha_bar_next) * image + ratio * (noisy - math.sqrt(alpha_bar) * image)


def from_guess(guess):
    """A step with another guess of the image."""

    def answer(noisy, eps, alpha_bar, alpha_bar_next):
        image = guess(noisy, eps, alpha_bar)
        return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next)

    return answer


def last_line(mix):
    """A step with another last line, ``mix(image, noise, alpha_bar, alpha_bar_next)``."""

    def answer(noisy, eps, alpha_bar, alpha_bar_next):
        image = guessed(noisy, eps, alpha_bar)
        return mix(image, implied(noisy, image, alpha_bar), alpha_bar, alpha_bar_next)

    return answer


def eps_as_predicted(noisy, eps, alpha_bar, alpha_bar_next):
    return mixed(guessed(noisy, eps, alpha_bar), eps, alpha_bar_next)


def fresh_noise(noisy, eps, alpha_bar, alpha_bar_next):
    return mixed(guessed(noisy, eps, alpha_bar), torch.randn_like(eps), alpha_bar_next)


def in_place(noisy, eps, alpha_bar, alpha_bar_next):
    before = noisy.clone()
    noisy -= (1 - alpha_bar) ** 0.5 * eps
    noisy /= alpha_bar**0.5
    noisy.clamp_(-1, 1)
    return mixed(noisy, implied(before, noisy, alpha_bar), alpha_bar_next)


def clamped_at_the_end(noisy, eps, alpha_bar, alpha_bar_next):
    image = (noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next).clamp(-1, 1)


def levels(alphas, times, end):
    return [*(float(alphas[t]) for t in times), end]


def chain(order, end, at=None, to=None):
    """A sampler or an inversion: ``order(times)`` is the order of the steps."""

    def answer(predict, x, alphas, times):
        way = order(times)
        after = levels(alphas, way[1:], end)
        for k, (t, alpha_bar_next) in enumerate(zip(way, after, strict=True)):
            time = t if at is None else at(way, k)
            alpha_bar_next = alpha_bar_next if to is None else to
            x = solutions.ddim_step(x, predict(x, time), float(alphas[t]), alpha_bar_next)
        return x

    return answer


def down(times):
    return times[::-1]


def up(times):
    return list(times)


def chain_by_index(order, end):
    def answer(predict, x, alphas, times):
        way = order(times)
        for i in range(len(way)):
            alpha_bar_next = float(alphas[way[i + 1]]) if i + 1 < len(way) else end
            x = solutions.ddim_step(x, predict(x, way[i]), float(alphas[way[i]]), alpha_bar_next)
        return x

    return answer


def chain_by_recursion(order, end):
    def answer(predict, x, alphas, times):
        first, *rest = order(times)
        alpha_bar_next = float(alphas[rest[0]]) if rest else end
        x = solutions.ddim_step(x, predict(x, first), float(alphas[first]), alpha_bar_next)
        return answer(predict, x, alphas, sorted(rest)) if rest else x

    return answer


def from_the_start_again(order, end):
    def answer(predict, x, alphas, times):
        way = order(times)
        for t, alpha_bar_next in zip(way, levels(alphas, way[1:], end), strict=True):
            out = solutions.ddim_step(x, predict(x, t), float(alphas[t]), alpha_bar_next)
        return out

    return answer


def without_last(order):
    def answer(predict, x, alphas, times):
        way = order(times)
        for t, to in itertools.pairwise(way):
            x = solutions.ddim_step(x, predict(x, t), float(alphas[t]), float(alphas[to]))
        return x

    return answer


def all_steps(order, end):
    def answer(predict, x, alphas, times):
        way = order(times)
        out = [x]
        for t, alpha_bar_next in zip(way, levels(alphas, way[1:], end), strict=True):
            x = out[-1]
            out.append(solutions.ddim_step(x, predict(x, t), float(alphas[t]), alpha_bar_next))
        return out

    return answer


def in_place_times(order, end, change):
    def answer(predict, x, alphas, times):
        out = chain(order, end)(predict, x, alphas, list(times))
        change(times)
        return out

    return answer


def schedule(change=None, dtype=torch.float64):
    def answer(first, last, steps):
        beta = torch.linspace(first, last, steps, dtype=dtype)
        return (change or (lambda b: (1 - b).cumprod(0)))(beta)

    return answer


def schedule_in_a_loop(first, last, steps):
    values, left = [], 1.0
    for k in range(steps):
        left *= 1 - (first + (last - first) * k / (steps - 1))
        values.append(left)
    return torch.tensor(values, dtype=torch.float64)


def schedule_by_logs(first, last, steps):
    beta = torch.arange(steps).double() / (steps - 1) * (last - first) + first
    return torch.log1p(-beta).cumsum(0).exp()


def noised(factors):
    """Answer 2 with the factors of image and noise as functions of alpha_bar."""

    def answer(x0, eps, alpha_bar):
        a, b = factors(alpha_bar.view(-1, 1, 1, 1))
        return a * x0 + b * eps

    return answer


def noised_in_a_loop(x0, eps, alpha_bar):
    rows = zip(x0, eps, alpha_bar.tolist(), strict=True)
    return torch.stack([a**0.5 * x + (1 - a) ** 0.5 * e for x, e, a in rows])


def noised_by_einsum(x0, eps, alpha_bar):
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return torch.einsum("b,bchw->bchw", signal, x0) + torch.einsum("b,bchw->bchw", sigma, eps)


def lossy(compare=None, noisy=True, of=None, order=None, calls=1):
    """Answer 3, with mistakes."""

    def answer(denoiser, x0, z, t, eps, alphas):
        x = solutions.add_noise(x0, eps, alphas[t] if of is None else of(alphas, t))
        x = x if noisy else x0
        for _ in range(calls):
            predicted = denoiser(*(order(x, t, z) if order else (x, t, z)))
        return (compare or (lambda p, e, x0, x: (p - e).square().mean()))(predicted, eps, x0, x)

    return answer


def loss_of_torch(denoiser, x0, z, t, eps, alphas):
    a = alphas.gather(0, t)[:, None, None, None]
    return torch.nn.functional.mse_loss(denoiser(a**0.5 * x0 + (1 - a) ** 0.5 * eps, t, z), eps)


def loss_per_image(denoiser, x0, z, t, eps, alphas):
    difference = denoiser(solutions.add_noise(x0, eps, alphas[t]), t, z) - eps
    return difference.pow(2).flatten(1).mean(1).mean()


def inputs(order="xscz", frequencies=None, rows=True):
    """Answer 4: parts in another order, or with other frequencies."""

    def answer(x, t, z):
        f = torch.logspace(0, -4, 16) if frequencies is None else frequencies
        angle = t[:, None] * f
        parts = {"x": x.flatten(1), "s": angle.sin(), "c": angle.cos(), "z": z}
        return torch.cat([parts[name] for name in order], 1 if rows else 0)

    return answer


def inputs_divided(x, t, z):
    angle = t[:, None] / torch.logspace(0, -4, 16)
    return torch.cat([x.flatten(1), angle.sin(), angle.cos(), z], 1)


def inputs_in_a_loop(x, t, z):
    rows = []
    for image, time, code in zip(x, t.tolist(), z, strict=True):
        angle = torch.tensor([time * 10 ** (-4 * k / 15) for k in range(16)])
        rows.append(torch.cat([image.flatten(), torch.sin(angle), torch.cos(angle), code]))
    return torch.stack(rows)


def inputs_by_outer(x, t, z):
    angle = torch.outer(t.float(), 10 ** torch.linspace(0, -4, 16))
    return torch.hstack((x.reshape(len(x), -1), angle.sin(), angle.cos(), z))


def changed_times(t, how):
    if how == "low":
        return t % 100
    return t[:1] if how == "one" else t


def trained(
    own=("encoder", "denoiser"), rows=None, times=None, noise=None, lines="zbs", give=None,
    seeded=True, lr_used=True, once=False,
):  # fmt: skip
    """Answer 5, with mistakes."""

    def answer(encoder, denoiser, images, alphas, steps, batch_size=128, lr=3e-3, seed=0):
        g = torch.Generator()
        if seeded:
            g.manual_seed(seed)
        else:
            g.seed()
        nets = {"encoder": encoder, "denoiser": denoiser}
        parameters = [p for name in own for p in nets[name].parameters()]
        adam = torch.optim.Adam(parameters, lr=lr if lr_used else 0.0)
        losses, kept = [], None
        for _ in range(steps):
            picked = torch.randint(len(images), (batch_size,), generator=g)
            picked = torch.arange(batch_size) if rows == "first" else picked
            picked = torch.arange(len(images)) if rows == "all" else picked
            if once:
                kept = picked = picked if kept is None else kept
            x0 = images[picked]
            n = len(x0)
            t = changed_times(torch.randint(len(alphas), (n,), generator=g), times)
            eps = torch.randn(x0.shape, generator=g)
            if noise:
                eps = torch.rand(x0.shape, generator=g) if noise == "uniform" else 0 * eps
            loss = solutions.diffusion_loss(denoiser, x0, encoder(x0), t, eps, alphas)
            for line in lines:
                {"z": adam.zero_grad, "b": loss.backward, "s": adam.step}[line]()
            losses.append(loss.item())
        return (give or (lambda losses: losses))(losses)

    return answer


def train_by_permutation(encoder, denoiser, images, alphas, steps, batch_size=128, lr=3e-3, seed=0):
    """Another style: shuffled rows, another optimiser call, and no zero_grad of the optimiser."""
    g = torch.Generator().manual_seed(seed)
    nets = torch.nn.ModuleList([encoder, denoiser])
    optimiser = torch.optim.AdamW(nets.parameters(), lr, weight_decay=0)
    losses = []
    while len(losses) < steps:
        x0 = images[torch.randperm(len(images), generator=g)[:batch_size]]
        t = (torch.rand(batch_size, generator=g) * len(alphas)).long()
        eps = torch.empty_like(x0).normal_(generator=g)
        for p in nets.parameters():
            p.grad = None
        loss = solutions.diffusion_loss(denoiser, x0, encoder(x0), t, eps, alphas)
        loss.backward()
        optimiser.step()
        losses += [float(loss.detach())]
    return losses


def train_by_numpy(encoder, denoiser, images, alphas, steps, batch_size=128, lr=3e-3, seed=0):
    """Another style: torch's global seed, and a generator of losses."""
    torch.manual_seed(seed)
    adam = torch.optim.Adam(list(encoder.parameters()) + list(denoiser.parameters()), lr)

    def one():
        x0 = images[torch.randint(0, images.shape[0], (batch_size,))]
        t = torch.randint(0, alphas.numel(), (batch_size,))
        loss = solutions.diffusion_loss(denoiser, x0, encoder(x0), t, torch.randn_like(x0), alphas)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.item()

    return [one() for _ in range(steps)]


def predicted(numerator=None, divide=lambda a: a**0.5, limit=lambda v: v.clamp(-1, 1)):
    def answer(x, eps, alpha_bar):
        top = (numerator or (lambda x, e, a: x - (1 - a) ** 0.5 * e))(x, eps, alpha_bar)
        return limit(top / divide(alpha_bar))

    return answer


def predicted_in_place(x, eps, alpha_bar):
    x -= (1 - alpha_bar) ** 0.5 * eps
    x /= alpha_bar**0.5
    return x.clamp_(-1, 1)


def measured(compare=None, noisy=True, last=False, of=None, grow=False):
    """Answer 7, with mistakes."""

    def answer(predict, x0, eps, alphas, times):
        errors, x = [], x0
        for t in times:
            a = alphas[t if of is None else of]
            start = x if grow else x0
            x = solutions.add_noise(start, eps, a.float().expand(len(x0))) if noisy else x0
            e = predict(x, t)
            image = solutions.predict_x0(x, e, float(a))
            error = (compare or (lambda i, e, x: (i - x0).square().mean()))(image, e, x)
            errors.append(float(error if compare is None else error - 0))
        return errors[-1] if last else errors

    def of_noise(predict, x0, eps, alphas, times):
        errors = []
        for t in times:
            x = solutions.add_noise(x0, eps, alphas[t].float().expand(len(x0)))
            errors.append(float((predict(x, t) - eps).square().mean()))
        return errors

    return of_noise if compare == "noise" else answer


def errors_of_torch(predict, x0, eps, alphas, times):
    def one(t):
        a = float(alphas[t])
        x = a**0.5 * x0 + (1 - a) ** 0.5 * eps
        image = ((x - (1 - a) ** 0.5 * predict(x, t)) / a**0.5).clip(-1, 1)
        return torch.nn.functional.mse_loss(image, x0).item()

    return [one(t) for t in times]


def errors_per_image(predict, x0, eps, alphas, times):
    found = ()
    for t in times:
        a = alphas[t].repeat(len(x0)).to(x0)
        x = solutions.add_noise(x0, eps, a)
        image = solutions.predict_x0(x, predict(x, t), alphas[t].item())
        rows = [float(((i - j) ** 2).mean()) for i, j in zip(image, x0, strict=True)]
        found += (sum(rows) / len(rows),)
    return found


def velocity(of_v=lambda a: a**0.5, of_x=lambda a: (1 - a) ** 0.5):
    def answer(x, v, alpha_bar):
        return of_v(alpha_bar) * v + of_x(alpha_bar) * x

    return answer


def velocity_by_image(x, v, alpha_bar):
    x0 = alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * v
    return (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5


def velocity_by_solve(x, v, alpha_bar):
    a, b = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    matrix = torch.tensor([[a, b], [-b, a]])
    return torch.linalg.solve(matrix, torch.stack([x.flatten(), v.flatten()]))[1].view_as(x)


def assembled(
    interval=True, noise=True, code=None, back=True, clamp=True, own_times=None, no_grad=True,
    order="ed", unfold=True, use_noise=True, ends="pair", time=None,
):  # fmt: skip
    """Answer 12, with mistakes."""

    def answer(space, alphas):
        def conditioned(z):
            def predict(x, t):
                v = space.net(x, torch.tensor([t if time is None else time]), z)
                return solutions.noise_from_velocity(x, v, float(alphas[t])) if noise else v

            return predict

        def encode(images):
            with torch.set_grad_enabled(not no_grad):
                x = space.codec.encode(images * 2 - 1 if interval else images)
                z = space.net.encoder(x)
                given = z if code is None else code(z)
                times = own_times or space.inversion_times
                found = solutions.ddim_inversion(conditioned(given), x, alphas, times)
                return {"pair": (z, found), "code": z, "swapped": (found, z)}[ends]

        @torch.no_grad()
        def decode(z, noise):
            start = noise if use_noise else torch.zeros_like(noise)
            x = solutions.render(conditioned(z), start, alphas, space.times)
            x = space.codec.decode(x) if unfold else x
            x = (x + 1) / 2 if back else x
            return x.clamp(0, 1) if clamp else x

        return (encode, decode) if order == "ed" else (decode, encode)

    return answer


class Assembled:
    """Another style: a class with two methods."""

    def __init__(self, space, alphas):
        self.space, self.alphas = space, alphas

    def predict(self, z):
        return lambda x, t: solutions.noise_from_velocity(
            x, self.space.net(x, torch.full((len(x),), t), z), self.alphas[t].item()
        )

    @torch.no_grad()
    def encode(self, images):
        x = self.space.codec.encode(2 * images - 1)
        z = self.space.net.encoder(x)
        return [z, solutions.ddim_inversion(self.predict(z), x, self.alphas, self.space.times)]

    @torch.no_grad()
    def decode(self, z, noise):
        x = solutions.render(self.predict(z), noise, self.alphas, self.space.times)
        return self.space.codec.decode(x).add(1).div(2).clip(0, 1)


def by_a_class(space, alphas):
    mine = Assembled(space, alphas)
    return mine.encode, mine.decode


def by_partial(space, alphas):
    @torch.inference_mode()
    def noise_at(x, t, z):
        v = space.net(x, torch.as_tensor([t]), z)
        return alphas[t].sqrt().float() * v + (1 - alphas[t]).sqrt().float() * x

    def encode(images):
        x = space.codec.encode(images.sub(0.5).mul(2))
        z = space.encode_semantic(images)
        predict = functools.partial(noise_at, z=z)
        return z.detach(), solutions.ddim_inversion(predict, x, alphas, space.inversion_times)

    def decode(z, noise):
        x = solutions.render(functools.partial(noise_at, z=z), noise, alphas, space.times)
        return (space.codec.decode(x) / 2 + 0.5).clamp(0, 1)

    return encode, decode


def stepped_errors(swap=False, same_steps=False, both=False, seeded=True, root=False, last=False):
    """Answer 13, with mistakes."""

    def answer(space, images, alphas, steps, seed):
        found, drawn = [], []
        for n in steps:
            other = space if same_steps else space.with_steps(n)
            encode, decode = solutions.my_diffae(other, alphas)
            z, noise = encode(images)
            new = noise if both else noise_like(noise, seed if seeded else 0)
            for errors, start in ((found, noise), (drawn, new)):
                error = float((decode(z, start) - images).square().mean())
                errors.append(error**0.5 if root else error)
        if last:
            return found[-1], drawn[-1]
        return (drawn, found) if swap else (found, drawn)

    return answer


def errors_by_the_library(space, images, alphas, steps, seed):
    found, drawn = {}, {}
    for n in steps:
        other = space.with_steps(n)
        code = other.encode(images)
        found[n] = torch.nn.functional.mse_loss(other.decode(code), images).item()
        new = Code(code.z, noise_like(code.aux, seed))
        drawn[n] = torch.nn.functional.mse_loss(other.decode(new), images).item()
    return list(found.values()), list(drawn.values())


def errors_by_comprehension(space, images, alphas, steps, seed):
    def one(n):
        encode, decode = solutions.my_diffae(space.with_steps(n), alphas)
        z, noise = encode(images)
        both = (noise, noise_like(noise, seed))
        return [torch.mean((decode(z, x) - images) ** 2).item() for x in both]

    return [list(column) for column in zip(*map(one, steps), strict=True)]


def flips(edit=None, noise=True, compare=None, scale=1, last=False):
    """Answer 17, with mistakes."""

    def answer(decode, z, x_T, direction, network, amounts, target=9):
        fractions, code = [], z
        for amount in amounts:
            code = (edit or (lambda z, code, a, d: z + a * d))(z, code, amount, direction)
            image = decode(code.expand_as(z), x_T if noise else torch.zeros_like(x_T))
            read = predict_logits(network, image).argmax(1)
            hits = (compare or (lambda r, t: r == t))(read, target)
            fractions.append(scale * float(hits.double().mean()))
        return fractions[-1] if last else fractions

    return answer


def flips_by_counting(decode, z, x_T, direction, network, amounts, target=9):
    result = []
    for amount in amounts:
        logits = network(decode(torch.add(z, direction, alpha=amount), x_T))
        result.append(sum(row.argmax().item() == target for row in logits) / len(z))
    return tuple(result)


def flips_in_one_go(decode, z, x_T, direction, network, amounts, target=9):
    codes = torch.cat([z + a * direction for a in amounts])
    read = predict_logits(network, decode(codes, x_T.repeat(len(amounts), 1, 1, 1))).argmax(1)
    return (read == target).double().view(len(amounts), -1).mean(1).tolist()


def flips_in_place(decode, z, x_T, direction, network, amounts, target=9):
    z += 0.1 * direction
    return flips()(decode, z, x_T, direction, network, amounts, target)


def fractions(read, of_z, of_aux):
    differ = of_z != of_aux
    return tuple(float((read == y)[differ].double().mean()) for y in (of_z, of_aux))


def in_a_loop(read, of_z, of_aux):
    rows = [(r, a, b) for r, a, b in zip(read, of_z, of_aux, strict=True) if a != b]
    if not rows:
        return math.nan, math.nan
    return sum(r == a for r, a, b in rows) / len(rows), sum(r == b for r, a, b in rows) / len(rows)


def reported(change):
    def answer(read, of_z, of_aux):
        return change(*fractions(read, of_z, of_aux))

    return answer


def no_mask(read, of_z, of_aux):
    return float((read == of_z).double().mean()), float((read == of_aux).double().mean())


def joined_masks(read, of_z, of_aux):
    differ = of_z != of_aux
    return no_mask_of((read == of_z) & differ, (read == of_aux) & differ)


def no_mask_of(*hits):
    return tuple(float(hit.double().mean()) for hit in hits)


def counted(read, of_z, of_aux):
    differ = of_z != of_aux
    return int((read == of_z)[differ].sum()), int((read == of_aux)[differ].sum())


def zero_of_nobody(read, of_z, of_aux):
    found = fractions(read, of_z, of_aux)
    return tuple(0.0 if math.isnan(fraction) else fraction for fraction in found)


def same_donors(read, of_z, of_aux):
    same = of_z == of_aux
    return no_mask_of((read == of_z)[same], (read == of_aux)[same])


def neither_counted(read, of_z, of_aux):
    differ = of_z != of_aux
    return no_mask_of((read != of_z)[differ], (read != of_aux)[differ])


def angles(a, b):
    cosine = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
    return cosine.acos().view(-1, 1, 1, 1)


def arc(angle, weight=torch.sin):
    """The formula with another angle or another function for the sine."""

    def answer(a, b, w):
        t = angle(a, b)
        return (weight((1 - w) * t) * a + weight(w * t) * b) / weight(t)

    return answer


def arc_in_a_loop(a, b, w):
    rows = []
    for x, y in zip(a, b, strict=True):
        t = math.acos(float((x * y).sum() / x.norm() / y.norm()))
        rows.append((math.sin((1 - w) * t) * x + math.sin(w * t) * y) / math.sin(t))
    return torch.stack(rows)


def of_the_batch(a, b):
    return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos()


def of_channels(a, b):
    return torch.cosine_similarity(a, b, dim=1).acos()[:, None]


def not_normalised(a, b):
    return (a.flatten(1) * b.flatten(1)).sum(1).acos().view(-1, 1, 1, 1)


def unshaped(a, b):
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()


def not_divided(a, b, w):
    t = angles(a, b)
    return ((1 - w) * t).sin() * a + (w * t).sin() * b


def ends_normalised(a, b, w):
    def unit(x):
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    return arc(angles)(unit(a), unit(b), w)


def lerp_with_length(a, b, w):
    """The straight mix, stretched: no arc, though often close to one."""

    def length(x):
        return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    mix = torch.lerp(a, b, w)
    return mix / length(mix) * torch.lerp(length(a), length(b), w)


def fair(draw, direction, std):
    return draw / draw.norm() * (direction / std).norm() * std


def scaled_afterwards(draw, direction, std):
    moved = draw * std
    return moved * (direction / std).norm() / (moved / std).norm()


def in_double(draw, direction, std):
    return fair(draw.double(), direction.double(), std.double())


TABLE = {
    "ddim_step": Answers(
        right={
            "solution": solutions.ddim_step,
            "steps": stepped,
            "package": by_the_package,
            "math": with_math,
        },
        wrong={
            "eps as predicted": (eps_as_predicted, "the noise no longer fits the image"),
            "not clamped": (
                from_guess(lambda x, e, a: (x - (1 - a) ** 0.5 * e) / a**0.5),
                "the predicted image leaves [-1, 1]",
            ),
            "clamped at the end": (clamped_at_the_end, "at alpha_bar_next = 0.64"),
            "clamped to [0, 1]": (
                from_guess(lambda x, e, a: ((x - (1 - a) ** 0.5 * e) / a**0.5).clamp(0, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "no roots in the guess": (
                from_guess(lambda x, e, a: ((x - (1 - a) * e) / a).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "not divided": (
                from_guess(lambda x, e, a: (x - (1 - a) ** 0.5 * e).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "noise added": (
                from_guess(lambda x, e, a: ((x + (1 - a) ** 0.5 * e) / a**0.5).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "no roots at the end": (
                last_line(
                    lambda i, n, alpha_bar, alpha_bar_next: (
                        alpha_bar_next * i + (1 - alpha_bar_next) * n
                    )
                ),
                "at alpha_bar_next = 0.64",
            ),
            "back to where it was": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: mixed(i, n, alpha_bar)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "always the image": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: i),
                "at alpha_bar_next = 0.64",
            ),
            "image and noise": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: (i, n)),
                "expected a tensor of shape (2, 3, 4, 4), got tuple",
            ),
            "fresh noise": (fresh_noise, "gives another result when repeated"),
            "in place": (in_place, "an argument has been changed"),
        },
    ),
    "render": Answers(
        right={
            "solution": solutions.render,
            "index": chain_by_index(down, 1.0),
            "recursion": chain_by_recursion(down, 1.0),
            "package": lambda predict, x, alphas, times: ddim.render(predict, x, alphas, times),
        },
        wrong={
            "other order": (chain(up, 1.0), "the network is evaluated at rising times"),
            "other chain": (solutions.ddim_inversion, "the network is evaluated at rising times"),
            "last step left out": (without_last(down), "the network was evaluated at times"),
            "at the time after the step": (
                chain(down, 1.0, at=lambda way, k: way[min(k + 1, 3)]),
                "the network was evaluated at times",
            ),
            "wrong end": (chain(down, 0.0), "differs from the library's"),
            "always to the end": (chain(down, 1.0, to=1.0), "each step ends at the clean image"),
            "from the start again": (from_the_start_again(down, 1.0), "differs from the library's"),
            "all steps": (all_steps(down, 1.0), "got list"),
            "times changed": (
                in_place_times(down, 1.0, lambda times: times.reverse()),
                "the list of times has been changed",
            ),
            "nothing": (lambda predict, x, alphas, times: None, "returned None"),
        },
    ),
    "ddim_inversion": Answers(
        right={
            "solution": solutions.ddim_inversion,
            "index": chain_by_index(up, 0.0),
            "recursion": chain_by_recursion(up, 0.0),
            "package": lambda predict, x, alphas, times: ddim.invert(predict, x, alphas, times),
        },
        wrong={
            "other order": (chain(down, 0.0), "the network is evaluated at falling times"),
            "other chain": (solutions.render, "the network is evaluated at falling times"),
            "last step left out": (without_last(up), "the network was evaluated at times"),
            "at the time after the step": (
                chain(up, 0.0, at=lambda way, k: way[min(k + 1, 3)]),
                "the network was evaluated at times",
            ),
            "wrong end": (chain(up, 1.0), "the result is an image, not noise"),
            "always to the end": (chain(up, 0.0, to=0.0), "each step leads to pure noise"),
            "from the start again": (from_the_start_again(up, 0.0), "differs from the library's"),
            "all steps": (all_steps(up, 0.0), "got list"),
            "times changed": (
                in_place_times(up, 0.0, lambda times: times.reverse()),
                "the list of times has been changed",
            ),
            "nothing": (lambda predict, x, alphas, times: None, "returned None"),
        },
    ),
    "noise_schedule": Answers(
        right={"solution": schedule(), "loop": schedule_in_a_loop, "logs": schedule_by_logs},
        wrong={
            "beta": (schedule(lambda b: b), "the variances of the added noise"),
            "not multiplied": (schedule(lambda b: 1 - b), "belongs to one step only"),
            "added": (schedule(lambda b: (1 - b).cumsum(0)), "the fractions are added"),
            "noise": (schedule(lambda b: 1 - (1 - b).cumprod(0)), "what the noise has replaced"),
            "roots": (schedule(lambda b: (1 - b).cumprod(0).sqrt()), "not of its variance"),
            "single precision": (schedule(dtype=torch.float32), "expected double precision"),
            "product of beta": (
                schedule(lambda b: b.cumprod(0)),
                "for beta from 0.1 to 0.4 in 4 steps expected 0.90 to 0.30",
            ),
            "only the last": (schedule(lambda b: (1 - b).prod()), "expected 4 values"),
            "constants": (
                lambda *_: schedule()(0.1, 0.4, 4),
                "the schedule of the library",
            ),
        },
    ),
    "add_noise": Answers(
        right={
            "solution": solutions.add_noise,
            "loop": noised_in_a_loop,
            "einsum": noised_by_einsum,
        },
        wrong={
            "variances": (noised(lambda a: (a, 1 - a)), "variances are used as factors"),
            "exchanged": (
                noised(lambda a: ((1 - a).sqrt(), a.sqrt())),
                "image and noise are exchanged",
            ),
            "subtracted": (
                noised(lambda a: (a.sqrt(), -(1 - a).sqrt())),
                "the noise is subtracted",
            ),
            "factors add up": (
                noised(lambda a: (a.sqrt(), 1 - a.sqrt())),
                "the two factors add up to 1",
            ),
            "image in full": (noised(lambda a: (1, (1 - a).sqrt())), "not the mixture"),
            "mean level": (
                lambda x0, eps, a: solutions.add_noise(x0, eps, a.mean().expand(3)),
                "not the mixture",
            ),
            "not reshaped": (
                lambda x0, eps, a: a.sqrt() * x0 + (1 - a).sqrt() * eps,
                "it raised RuntimeError",
            ),
        },
    ),
    "diffusion_loss": Answers(
        right={
            "solution": solutions.diffusion_loss,
            "torch": loss_of_torch,
            "per image": loss_per_image,
        },
        wrong={
            "clean image": (lossy(noisy=False), "the denoiser gets the clean image"),
            "level of the first": (
                lossy(of=lambda alphas, t: alphas[t[:1]].expand(len(t))),
                "does not get the noisy image of time t",
            ),
            "wrong level": (
                lossy(of=lambda alphas, t: 1 - alphas[t]),
                "does not get the noisy image of time t",
            ),
            "compared with the image": (
                lossy(lambda p, e, x0, x: (p - x0).square().mean()),
                "compared with the image",
            ),
            "compared with the noisy image": (
                lossy(lambda p, e, x0, x: (p - x).square().mean()),
                "compared with the noisy image",
            ),
            "absolute": (lossy(lambda p, e, x0, x: (p - e).abs().mean()), "not squared"),
            "summed": (lossy(lambda p, e, x0, x: (p - e).square().sum()), "added up"),
            "mean first": (
                lossy(lambda p, e, x0, x: (p - e).mean().square()),
                "the error is that of the summed pixels",
            ),
            "root": (lossy(lambda p, e, x0, x: (p - e).square().mean().sqrt()), "square root"),
            "per image": (
                lossy(lambda p, e, x0, x: (p - e).square().flatten(1).mean(1)),
                "expected one number for the batch",
            ),
            "no graph": (
                lossy(lambda p, e, x0, x: (p.detach() - e).square().mean()),
                "no gradient with respect to the weights",
            ),
            "another code": (
                lossy(order=lambda x, t, z: (x, t, 0 * z)),
                "another time or another code",
            ),
            "twice": (lossy(calls=2), "expected one call of the denoiser, got 2"),
            "half": (
                lossy(lambda p, e, x0, x: 0.5 * (p - e).square().mean()),
                "expected a loss of",
            ),
        },
    ),
    "network_input": Answers(
        right={
            "solution": solutions.network_input,
            "loop": inputs_in_a_loop,
            "outer": inputs_by_outer,
        },
        wrong={
            "order": (inputs("zscx"), "the first 64 numbers are not the pixels"),
            "code before time": (inputs("xzsc"), "the last 16 numbers are not the code"),
            "cosines first": (inputs("xcsz"), "sines and cosines are exchanged"),
            "no cosines": (inputs("xsz"), "expected one row of 64 + 16 + 16 + 16 numbers"),
            "rising": (
                inputs(frequencies=torch.logspace(-4, 0, 16)),
                "the frequencies rise",
            ),
            "linear": (inputs(frequencies=torch.linspace(1, 1e-4, 16)), "fall evenly"),
            "divided": (
                inputs_divided,
                "the time is divided by the frequencies",
            ),
            "in fractions": (
                inputs(frequencies=torch.logspace(0, -4, 16) / 1000),
                "not those of frequency times t",
            ),
            "stacked": (inputs("sc", rows=False), "expected one row of"),
        },
    ),
    "train": Answers(
        right={
            "solution": solutions.train,
            "permutation": train_by_permutation,
            "global seed": train_by_numpy,
        },
        wrong={
            "denoiser only": (trained(own=("denoiser",)), "the encoder has not changed"),
            "encoder only": (trained(own=("encoder",)), "the denoiser has not changed"),
            "no step": (trained(lines="zb"), "the denoiser has not changed"),
            "no learning rate": (trained(lr_used=False), "the denoiser has not changed"),
            "zeroed after backward": (trained(lines="bzs"), "has not changed"),
            "all images": (trained(rows="all"), "expected batches of 16 images, got [40]"),
            "the first images": (trained(rows="first"), "two steps use the same images"),
            "one batch for ever": (trained(once=True), "two steps use the same images"),
            "one time": (trained(times="one"), "expected one time per image"),
            "low times": (trained(times="low"), "the times lie between"),
            "uniform noise": (trained(noise="uniform"), "not new normal noise"),
            "no noise": (trained(noise="zero"), "not new normal noise"),
            "last loss": (trained(give=lambda v: v[-1]), "expected a list with one loss per step"),
            "tensors": (
                trained(give=lambda v: [torch.tensor(x) for x in v]),
                "the losses are not plain numbers",
            ),
            "no seed": (trained(seeded=False), "the same seed gives other losses"),
        },
    ),
    "predict_x0": Answers(
        right={
            "solution": solutions.predict_x0,
            "math": lambda x, e, a: x.sub(e, alpha=math.sqrt(1 - a)).div(math.sqrt(a)).clip(-1, 1),
            "package": lambda x, e, a: ddim.predict_x0(x, e, a).clamp(min=-1, max=1),
        },
        wrong={
            "variances": (
                predicted(lambda x, e, a: x - (1 - a) * e, lambda a: a),
                "variances are used as factors",
            ),
            "not divided": (predicted(divide=lambda a: 1), "the image is still faint"),
            "noise in full": (predicted(lambda x, e, a: x - e), "removed in full strength"),
            "added": (predicted(lambda x, e, a: x + (1 - a) ** 0.5 * e), "noise is added"),
            "no limit": (predicted(limit=lambda v: v), "the predicted image leaves [-1, 1]"),
            "limit to [0, 1]": (
                predicted(limit=lambda v: v.clamp(0, 1)),
                "the image that was mixed with the noise is not found again",
            ),
            "limit before": (
                predicted(lambda x, e, a: (x - (1 - a) ** 0.5 * e).clamp(-0.5, 0.5) * 0.99),
                "is not found again",
            ),
            "in place": (predicted_in_place, "an argument has been changed"),
            "both": (lambda x, e, a: (x, e), "got tuple"),
        },
    ),
    "image_errors": Answers(
        right={
            "solution": solutions.image_errors,
            "torch": errors_of_torch,
            "per image": errors_per_image,
        },
        wrong={
            "clean": (measured(noisy=False), "the network gets the clean images"),
            "one level": (measured(of=500), "does not get the noisy images of each time"),
            "noise on noise": (measured(grow=True), "does not get the noisy images of each time"),
            "of the noise": (measured("noise"), "these are errors of the predicted noise"),
            "noisy compared": (
                measured(lambda i, e, x: (x - nb06._images(15)).square().mean()),
                "these are errors of the noisy image",
            ),
            "root": (
                measured(lambda i, e, x: (i - nb06._images(15)).square().mean().sqrt()),
                "the square root is taken",
            ),
            "absolute": (
                measured(lambda i, e, x: (i - nb06._images(15)).abs().mean()),
                "at time 500 expected",
            ),
            "last": (measured(last=True), "expected a list with one number per time, got float"),
        },
    ),
    "noise_from_velocity": Answers(
        right={
            "solution": solutions.noise_from_velocity,
            "by the image": velocity_by_image,
            "solve": velocity_by_solve,
        },
        wrong={
            "image": (
                velocity(lambda a: -((1 - a) ** 0.5), lambda a: a**0.5),
                "this is the image, not the noise",
            ),
            "exchanged": (
                velocity(lambda a: (1 - a) ** 0.5, lambda a: a**0.5),
                "the two factors are exchanged",
            ),
            "variances": (velocity(lambda a: a, lambda a: 1 - a), "variances are used"),
            "sign": (velocity(of_x=lambda a: -((1 - a) ** 0.5)), "one sign is wrong"),
            "velocity": (lambda x, v, a: v, "the velocity itself is returned"),
            "divided": (
                lambda x, v, a: (v + (1 - a) ** 0.5 * x) / a**0.5,
                "is not found again",
            ),
            "both": (lambda x, v, a: (x, v), "got tuple"),
        },
    ),
    "my_diffae": Answers(
        right={"solution": solutions.my_diffae, "class": by_a_class, "partial": by_partial},
        wrong={
            "interval": (assembled(interval=False), "a semantic code is"),
            "velocity as noise": (assembled(noise=False), "the noise differs by"),
            "other code": (assembled(code=lambda z: 0 * z), "the noise differs by"),
            "other times": (assembled(own_times=[0, 500]), "the noise differs by"),
            "one time": (assembled(time=0), "the noise differs by"),
            "gradients": (assembled(no_grad=False), "the codes carry the graphs"),
            "swapped": (assembled(order="de"), "it raised TypeError"),
            "code only": (assembled(ends="code"), "expected semantic codes and noise"),
            "noise first": (assembled(ends="swapped"), "expected codes z"),
            "no clamp": (assembled(back=False, clamp=False), "the images leave [0, 1]"),
            "interval at the end": (assembled(back=False), "a pixel differs by"),
            "codec not undone": (assembled(unfold=False), "expected images"),
            "own noise": (assembled(use_noise=False), "a pixel differs by"),
            "results": (lambda space, alphas: (1, 2), "expected two functions"),
            "one function": (lambda space, alphas: print, "expected two functions"),
        },
    ),
    "errors_by_steps": Answers(
        right={
            "solution": solutions.errors_by_steps,
            "library": errors_by_the_library,
            "comprehension": errors_by_comprehension,
        },
        wrong={
            "exchanged": (stepped_errors(swap=True), "the two lists are exchanged"),
            "same steps": (stepped_errors(same_steps=True), "the number of steps has no effect"),
            "noise found twice": (stepped_errors(both=True), "belongs to the noise found, too"),
            "own seed": (stepped_errors(seeded=False), "does not depend on the seed"),
            "root": (stepped_errors(root=True), "expected an error of"),
            "last only": (stepped_errors(last=True), "each with one number per entry"),
        },
    ),
    "flip_fractions": Answers(
        right={
            "solution": solutions.flip_fractions,
            "counting": flips_by_counting,
            "one go": flips_in_one_go,
        },
        wrong={
            "subtracted": (flips(lambda z, c, a, d: z - a * d), "the direction is subtracted"),
            "adding up": (flips(lambda z, c, a, d: c + a * d), "the amounts add up"),
            "direction only": (
                flips(lambda z, c, a, d: (a * d)[None]),
                "the codes are replaced by the direction",
            ),
            "no noise": (flips(noise=False), "the noise is not used"),
            "not the target": (flips(compare=lambda r, t: r != t), "not read as the target"),
            "counted": (flips(scale=50), "images are counted, not averaged"),
            "percent": (flips(scale=100), "expected ["),
            "last": (flips(last=True), "expected a list with one number per amount"),
            "in place": (flips_in_place, "the codes that were handed in have changed"),
        },
    ),
    "code_or_noise": Answers(
        right={
            "solution": solutions.code_or_noise,
            "masks": fractions,
            "loop": in_a_loop,
            "list": reported(lambda a, b: [a, b]),
        },
        wrong={
            "exchanged": (reported(lambda a, b: (b, a)), "the two fractions are exchanged"),
            "one fraction": (reported(lambda a, b: a), "expected two fractions, got float"),
            "percent": (reported(lambda a, b: (100 * a, 100 * b)), "a fraction is at most 1"),
            "counted": (counted, "a fraction is at most 1, got 5 and 1"),
            "no mask": (no_mask, "pairs with donors of the same class are included"),
            "joined masks": (joined_masks, "hits are divided by the number of all pairs"),
            "donors of one class": (same_donors, "expected 0.714 and 0.143, got 1.000 and 1.000"),
            "what it isn't": (neither_counted, "expected 0.714 and 0.143, got 0.286 and 0.857"),
            "complement": (
                reported(lambda a, b: (a, 1 - a)),
                "expected 0.714 and 0.143, got 0.714 and 0.286",
            ),
            "zero of nobody": (zero_of_nobody, "without any pair of different classes"),
        },
    ),
    "slerp": Answers(
        right={
            "solution": solutions.slerp,
            "formula": arc(angles),
            "loop": arc_in_a_loop,
            "basis": nb06.spherical_interpolation,
        },
        wrong={
            "straight": (torch.lerp, "this is linear interpolation"),
            "from b to a": (lambda a, b, w: arc(angles)(b, a, w), "goes from b to a"),
            "not divided": (not_divided, "at w = 0 the result isn't a"),
            "ends normalised": (ends_normalised, "at w = 0 the result isn't a"),
            "cosines": (arc(angles, torch.cos), "at w = 0 the result isn't a"),
            "one angle for all": (arc(of_the_batch), "depends on the other images of the batch"),
            "angle of channels": (arc(of_channels), "not on the arc between a and b"),
            "not normalised": (arc(not_normalised), "the result contains NaN"),
            "angle not spread": (arc(unshaped), "it raised RuntimeError"),
            "degrees": (
                arc(lambda a, b: angles(a, b) * 180 / math.pi),
                "not on the arc between a and b",
            ),
            "straight, stretched": (
                lerp_with_length,
                "not on the arc between a and b",
            ),
        },
    ),
    "matched_random_direction": Answers(
        right={
            "solution": solutions.matched_random_direction,
            "formula": fair,
            "afterwards": scaled_afterwards,
            "double": in_double,
        },
        wrong={
            "the direction": (
                lambda draw, direction, std: direction,
                "the direction isn't parallel to the draw",
            ),
            "draw as it is": (lambda draw, direction, std: draw, "favours coordinates"),
            "length of codes": (
                lambda draw, direction, std: draw / draw.norm() * direction.norm(),
                "favours coordinates with a small standard deviation",
            ),
            "right length, wrong way": (
                lambda draw, direction, std: draw * (direction / std).norm() / (draw / std).norm(),
                "favours coordinates with a small standard deviation",
            ),
            "not back in codes": (
                lambda draw, direction, std: draw / draw.norm() * (direction / std).norm(),
                "favours coordinates with a small standard deviation",
            ),
            "divided by std": (
                lambda draw, direction, std: fair(draw, direction, std) / std**2,
                "in units of std the direction isn't parallel to the draw",
            ),
            "std twice": (
                lambda draw, direction, std: fair(draw, direction, std) * std,
                "in units of std the direction isn't parallel to the draw",
            ),
            "not normalised": (
                lambda draw, direction, std: draw * (direction / std).norm() * std,
                "expected length",
            ),
            "draw's own length": (
                lambda draw, direction, std: draw * std,
                "expected length",
            ),
            "length in units of codes": (
                lambda draw, direction, std: draw / draw.norm() * direction.norm() * std,
                "expected length",
            ),
            "same length in units of codes": (
                lambda draw, direction, std: draw * std / (draw * std).norm() * direction.norm(),
                "expected length",
            ),
            "other way": (
                lambda draw, direction, std: -fair(draw, direction, std),
                "in units of std the direction isn't parallel to the draw",
            ),
            "a length": (
                lambda draw, direction, std: (direction / std).norm(),
                "shape (5,), got torch.Size([])",
            ),
        },
    ),
}


@right_answers(nb06, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb06, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_the_arc_of_the_package_has_equal_angles_and_keeps_lengths():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    third = nb06.spherical_interpolation(a, b, 1 / 3)
    wanted = torch.tensor([[3**0.5, 1.0], [1.5, 1.5 * 3**0.5]])
    assert torch.allclose(third, wanted, atol=1e-6)
