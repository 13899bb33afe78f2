"""What can stop a build, said so that a person knows what to do next."""


class BuildError(Exception):
    """A build step cannot go on. `remedy` says what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.remedy}" if self.remedy else self.problem
