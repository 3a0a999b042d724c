import io.socket.client.Socket;
import io.socket.client.SocketOptionBuilder;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.util.AbstractMap;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The client guide's lines, run: URL TOKEN TRANSPORTS ROOMS. lib/cursors.js puts them where the marker is. */
public final class CursorLines {
    private static final PrintStream OUT =
            new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    private static String[] transports;

    /** The stock client, impatient. */
    private static final class IO {
        static final class Options {
            static SocketOptionBuilder builder() {
                return io.socket.client.IO.Options.builder().setForceNew(true).setTransports(transports)
                        .setReconnectionDelay(50).setReconnectionDelayMax(200).setTimeout(2_000);
            }
        }

        static Socket socket(String url, io.socket.client.IO.Options options) throws URISyntaxException {
            return io.socket.client.IO.socket(url, options);
        }
    }

    private static synchronized void say(String what, Object value) {
        OUT.println(new JSONObject(Map.of(what, value)));
    }

    private static String[] texts(String json) throws JSONException {
        JSONArray array = new JSONArray(json);
        String[] texts = new String[array.length()];
        for (int i = 0; i < texts.length; i++) {
            texts[i] = array.getString(i);
        }
        return texts;
    }

    private static JSONObject room(String name) {
        return new JSONObject(Map.of("room", name));
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String token = arguments[1];
        transports = arguments[2].equals("null") ? null : texts(arguments[2]);
        String[] wanted = texts(arguments[3]);

        // THE LINES

        socket.on("cursors", args -> say("cursors", args[0]));
        socket.on("price", args -> say("heard", args[1]));
        socket.on(Socket.EVENT_DISCONNECT, args -> say("disconnected", true));
        socket.on(Socket.EVENT_CONNECT, args -> {
            say("connected", true);
            for (String name : wanted) {
                if (!since.containsKey(name)) {
                    socket.emit("join", room(name));
                }
            }
        });
        socket.connect();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JSONObject asked = new JSONObject(line);
            if (asked.has("leave")) {
                socket.emit("leave", room(asked.getString("leave")));
            } else {
                say("since", new JSONObject(since));
            }
        }
        System.exit(0);
    }
}
