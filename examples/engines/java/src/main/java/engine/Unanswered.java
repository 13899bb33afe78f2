package engine;

/** Something was sent, and what became of it is not known yet. */
final class Unanswered extends Refused {
  Unanswered(String why) {
    super(why);
  }
}
