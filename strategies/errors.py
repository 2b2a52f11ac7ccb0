"""What a strategy, or the code that calls one, can get wrong."""


class StrategyError(Exception):
    """A strategy is unknown, wrongly written, or asked for something that does not exist."""


class SignalError(StrategyError):
    """A strategy returned signals of the wrong shape, type or value."""


class StrategyCheckError(StrategyError):
    """A strategy failed its certification; the message lists every finding."""
