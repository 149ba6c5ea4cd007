import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** The HTTP server of the JDK. */
public class Zoo {
    static final Path SITE = Path.of(System.getenv("ZOO_SITE"));

    static byte[] data() throws IOException {
        String rows = IntStream.range(0, 20).mapToObj(n -> "{\"id\":" + n + ",\"name\":\"row " + n + "\"}").collect(Collectors.joining(","));
        return ("{\"value\":\"" + Files.readString(SITE.resolve("value.txt")) + "\",\"rows\":[" + rows + "]}").getBytes(StandardCharsets.UTF_8);
    }

    static void send(HttpExchange exchange, int status, String type, byte[] body) throws IOException {
        if (type != null) {
            exchange.getResponseHeaders().set("Content-Type", type);
        }
        boolean bodiless = exchange.getRequestMethod().equals("HEAD") || body.length == 0;
        exchange.sendResponseHeaders(status, bodiless ? -1 : body.length);
        if (!bodiless) {
            exchange.getResponseBody().write(body);
        }
    }

    static void answer(HttpExchange exchange) throws Exception {
        byte[] body = exchange.getRequestBody().readAllBytes();
        switch (exchange.getRequestURI().getPath()) {
            case "/" -> send(exchange, 200, "text/html", Files.readAllBytes(SITE.resolve("index.html")));
            case "/data" -> send(exchange, 200, "application/json", data());
            case "/save" -> {
                Files.writeString(SITE.resolve("value.txt"), new String(body).replaceFirst(".*value=([^&]*).*", "$1"));
                exchange.getResponseHeaders().set("Location", "/");
                send(exchange, 303, null, new byte[0]);
            }
            case "/upload" -> send(exchange, 200, "application/json", ("{\"bytes\":" + body.length + ",\"sha1\":\""
                    + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-1").digest(body)) + "\"}").getBytes());
            case "/file.bin" -> send(exchange, 200, "application/octet-stream", Files.readAllBytes(SITE.resolve("file.bin")));
            case "/wait" -> {
                Thread.sleep(300);
                send(exchange, 200, "text/plain", "waited".getBytes());
            }
            case "/moved" -> {
                exchange.getResponseHeaders().set("Location", "/data");
                send(exchange, 302, null, new byte[0]);
            }
            case "/events" -> {
                exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
                exchange.sendResponseHeaders(200, 0);
                for (String event : new String[] {"one", "two", "three"}) {
                    exchange.getResponseBody().write(("data: " + event + "\n\n").getBytes());
                    exchange.getResponseBody().flush();
                    Thread.sleep(50);
                }
            }
            default -> send(exchange, 404, "text/plain", "no such page".getBytes());
        }
    }

    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 64);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> {
            try (exchange) {
                answer(exchange);
            } catch (IOException e) {
                throw e;
            } catch (Exception e) {
                throw new IOException(e);
            }
        });
        server.start();
    }
}
