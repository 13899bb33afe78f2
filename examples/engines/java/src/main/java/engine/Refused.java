package engine;

import java.io.IOException;

/** Something that cannot go on; the sentence says why. */
class Refused extends IOException {
  Refused(String why) {
    super(why);
  }
}
