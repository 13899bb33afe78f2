package engine;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** What the engine pins: consortium.json. */
record Consortium(String channel, String genesisSha256, String chaincode, List<Member> members) {
  static final Gson JSON =
      new GsonBuilder().setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES).create();

  record Member(String mspId, String name, String caPem, String tlsCaPem, Gateway gateway) {}

  record Gateway(String grpc, String firstContact) {}

  static Consortium read(Path file) throws IOException {
    return JSON.fromJson(Files.readString(file), Consortium.class);
  }

  Member member(String name) throws Refused {
    return members.stream().filter(member -> member.name().equals(name)).findFirst()
        .orElseThrow(() -> new Refused("the consortium has no member " + name));
  }
}
