package engine;

/** `check` names the check of docs/verification.md that does not hold. */
final class NotProven extends Refused {
  final String check;

  NotProven(String check) {
    super("not proven: " + check);
    this.check = check;
  }
}
