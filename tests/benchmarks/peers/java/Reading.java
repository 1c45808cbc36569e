import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;

/** One reading out of an Avro payload, decoded by hand: what the fixed layout allows, no schema is walked. */
public class Reading {
    /** How many were decoded; printed once a second, so that a run that does not finish still says how far it came. */
    public static final LongAdder DECODED = new LongAdder();

    private static final int HEADER = 10; // C3 01 and the schema's fingerprint

    public String asset;
    public long at;
    public double power;

    public static Reading single(byte[] bytes) {
        Cursor cursor = new Cursor(bytes, HEADER);
        Reading reading = cursor.reading();
        DECODED.increment();
        return reading;
    }

    public static void batch(byte[] bytes, Consumer<Reading> out) {
        Cursor cursor = new Cursor(bytes, HEADER);
        for (long count = cursor.number(); count != 0; count = cursor.number()) {
            for (long n = 0; n < count; n++) {
                out.accept(cursor.reading());
            }
            DECODED.add(count);
        }
    }

    public static void tellProgress() {
        Thread teller = new Thread(() -> {
            try {
                while (true) {
                    Thread.sleep(1000);
                    System.out.println("progress " + System.currentTimeMillis() + " " + DECODED.sum());
                }
            } catch (InterruptedException over) {
                Thread.currentThread().interrupt();
            }
        });
        teller.setDaemon(true);
        teller.start();
    }

    private static final class Cursor {
        private final byte[] bytes;
        private int next;

        Cursor(byte[] bytes, int next) {
            this.bytes = bytes;
            this.next = next;
        }

        Reading reading() {
            Reading reading = new Reading();
            int length = (int) number();
            reading.asset = new String(bytes, next, length, StandardCharsets.ISO_8859_1);
            next += length;
            reading.at = number();
            reading.power = optional();
            optional(); // import_wh
            optional(); // export_wh
            optional(); // stored_wh
            next += 2; // phase and quality
            return reading;
        }

        long number() {
            long bits = 0;
            for (int shift = 0; ; shift += 7) {
                byte one = bytes[next++];
                bits |= (long) (one & 0x7F) << shift;
                if (one >= 0) {
                    return bits >>> 1 ^ -(bits & 1);
                }
            }
        }

        double optional() {
            if (bytes[next++] == 0) {
                return Double.NaN;
            }
            long bits = 0;
            for (int n = 7; n >= 0; n--) {
                bits = bits << 8 | bytes[next + n] & 0xFF;
            }
            next += 8;
            return Double.longBitsToDouble(bits);
        }
    }
}
