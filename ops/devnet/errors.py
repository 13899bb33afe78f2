"""What can go wrong with the laptop network, said so that a person knows what to do next."""


class DevnetError(Exception):
    """The network cannot do what was asked. `remedy` says what to do about it.

    DevnetError
     ├── PortTaken      another program listens where this network must
     ├── ToolMissing    a program that the build makes is not there
     ├── CommandFailed  one of Fabric's or Kubo's commands ended with an error
     └── NotReady       something did not come up within its deadline
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.remedy}" if self.remedy else self.problem


class PortTaken(DevnetError):
    """Another program listens on a port that this network was given."""


class ToolMissing(DevnetError):
    """A program that `make build` makes is not there."""


class CommandFailed(DevnetError):
    """A command-line tool ended with an error."""


class NotReady(DevnetError):
    """A program or condition was not there within its deadline."""
