"""Kernels as a user would write them, for test_kernels_own.py."""

calls = []
NUMBER = 5


def smoothing(setup):
    x = setup.rng.random(setup.shape).astype(setup.dtype)
    y = x.copy()

    def work():
        y[1:-1] = setup.config.arguments.get("weight", 0.5) * (x[:-2] + x[2:])
        calls.append((x, y))

    work.flops, work.nbytes = 2 * x.size, 3 * x.nbytes
    return work


class Class:
    """Work with a state of its own."""

    collective = True

    def __init__(self, setup):
        self.ranks = setup.ranks

    def __call__(self):
        calls.append(self.ranks)

    @staticmethod
    def make(setup):
        return lambda: calls.append("static")


def failing(setup):
    return 1 / 0


def fails_at_the_fifth_call(setup):
    left = iter(range(4))

    def work():
        if next(left, None) is None:
            raise ValueError("no more")

    return work


def returns_nothing(setup):
    pass
