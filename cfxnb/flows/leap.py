"""The leap of LeapFactual (arXiv 2510.14623): along a flow to noise, and back to another class."""

from torch import Tensor

from cfxnb.flows.velocity import ConditionalFlow

RK4 = 4  # evaluations of the velocity per step of the classical Runge-Kutta method


def leap(
    flow: ConditionalFlow,
    u: Tensor,
    present: Tensor,
    target: Tensor,
    gamma_lift: float,
    gamma_land: float,
    ode_steps: int,
) -> Tensor:
    """Return the codes after one leap.

    Lift: du/dt = gamma_lift v(u, present, t), from t = 1 down to 0.
    Land: du/dt = gamma_land v(u, target, t), from 0 up to 1.

    Each leg covers all times. With gamma < 1 the code moves only a part of the way to the noise.
    At each time, the velocity is taken at the present place of the code.

    Args:
        flow: Velocities on codes.
        u: Codes in the units of the flow, (b, ...).
        present: Condition of the flow on the way to the noise (lift): the present class, or the
            probabilities of all classes, (b, k).
        target: Condition of the flow on the way back (landing): the class to reach, (b, k).
        gamma_lift: Factor that multiplies the velocity in the lift. With 0 there is only a landing.
        gamma_land: Factor that multiplies the velocity in the landing.
        ode_steps: Steps of the classical Runge-Kutta method per leg.
    """
    if gamma_lift:
        u = integrate(flow, u, present, gamma_lift, 1.0, 0.0, ode_steps)
    return integrate(flow, u, target, gamma_land, 0.0, 1.0, ode_steps)


def integrate(
    flow: ConditionalFlow,
    u: Tensor,
    condition: Tensor,
    gamma: float,
    start: float,
    end: float,
    ode_steps: int,
) -> Tensor:
    """Solve du/dt = gamma v(u, condition, t) from ``start`` to ``end`` by RK4 with equal steps."""
    h = (end - start) / ode_steps
    ones = u.new_ones(len(u))

    def slope(u: Tensor, t: float) -> Tensor:
        return gamma * flow.velocity(u, condition, t * ones)

    for i in range(ode_steps):
        t = start + i * h
        k1 = slope(u, t)
        k2 = slope(u + h / 2 * k1, t + h / 2)
        k3 = slope(u + h / 2 * k2, t + h / 2)
        k4 = slope(u + h * k3, t + h)
        u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return u
