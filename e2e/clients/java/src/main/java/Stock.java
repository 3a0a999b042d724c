import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** A stock {@code io.socket:socket.io-client} that does what its standard input says. The lines: lib/stock.js. */
public final class Stock {
    private static final PrintStream OUT =
            new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    private Stock() {}

    public static void main(String[] args) throws Exception {
        JSONObject options = new JSONObject(args[1]);
        IO.Options settings = IO.Options.builder().setForceNew(true).build();
        if (!options.isNull("transports")) {
            settings.transports = texts(options.getJSONArray("transports"));
        }
        if (!options.isNull("auth")) {
            settings.auth = auth(options.getJSONObject("auth"));
        }
        Socket socket = IO.socket(args[0], settings);
        for (String event : texts(options.getJSONArray("events"))) {
            socket.on(event, heard -> hear(event, heard));
        }
        socket.on(Socket.EVENT_CONNECT, none -> say(Map.of("connected", socket.id())));
        socket.on(Socket.EVENT_DISCONNECT, reason -> say(Map.of("disconnected", reason[0])));
        socket.on(Socket.EVENT_CONNECT_ERROR, error -> {
            boolean told = error[0] instanceof JSONObject;
            say(Map.of("refused", told ? ((JSONObject) error[0]).optString("message") : String.valueOf(error[0])));
        });
        socket.connect();

        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JSONObject asked = new JSONObject(line);
            int ask = asked.getInt("ask");
            Ack answered = answer -> say(Map.of("ask", ask, "answer", plain(answer[0])));
            socket.emit(asked.getString("event"), new Object[] {real(asked.get("data"))}, answered);
        }
        socket.close();
        System.exit(0);
    }

    private static void hear(String event, Object[] heard) {
        int last = heard.length - 1;
        boolean asked = heard[last] instanceof Ack;
        Object[] args = asked ? Arrays.copyOf(heard, last) : heard;
        say(Map.of("event", event, "args", plain(array(args))));
        if (asked) {
            ((Ack) heard[last]).call();
        }
    }

    private static synchronized void say(Map<String, Object> line) {
        OUT.println(new JSONObject(new HashMap<>(line)));
    }

    /** What is in {@code auth} of this client can only be texts. */
    private static Map<String, String> auth(JSONObject given) {
        Map<String, String> auth = new HashMap<>();
        for (Iterator<?> names = given.keys(); names.hasNext();) {
            String name = (String) names.next();
            auth.put(name, given.optString(name));
        }
        return auth;
    }

    private static String[] texts(JSONArray array) throws JSONException {
        String[] texts = new String[array.length()];
        for (int i = 0; i < texts.length; i++) {
            texts[i] = array.getString(i);
        }
        return texts;
    }

    private static JSONArray array(Object[] values) {
        JSONArray array = new JSONArray();
        for (Object value : values) {
            array.put(value == null ? JSONObject.NULL : value);
        }
        return array;
    }

    /** With bytes as JSON can say them. */
    private static Object plain(Object value) {
        try {
            if (value instanceof byte[]) {
                return new JSONObject().put("$bytes", Base64.getEncoder().encodeToString((byte[]) value));
            }
            return converted(value, true);
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    /** With bytes as bytes again. */
    private static Object real(Object value) throws JSONException {
        if (value instanceof JSONObject && ((JSONObject) value).has("$bytes")) {
            return Base64.getDecoder().decode(((JSONObject) value).getString("$bytes"));
        }
        return converted(value, false);
    }

    private static Object converted(Object value, boolean out) throws JSONException {
        if (value instanceof JSONArray) {
            JSONArray converted = new JSONArray();
            for (int i = 0; i < ((JSONArray) value).length(); i++) {
                Object inner = ((JSONArray) value).get(i);
                converted.put(out ? plain(inner) : real(inner));
            }
            return converted;
        }
        if (value instanceof JSONObject) {
            JSONObject converted = new JSONObject();
            for (Iterator<?> names = ((JSONObject) value).keys(); names.hasNext();) {
                String name = (String) names.next();
                Object inner = ((JSONObject) value).get(name);
                converted.put(name, out ? plain(inner) : real(inner));
            }
            return converted;
        }
        return value;
    }
}
