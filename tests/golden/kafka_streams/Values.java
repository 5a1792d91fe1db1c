import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;

/** What the operators of the goldens do to values: numbers, texts, and lists of two out of joins. */
final class Values {
    static final ObjectMapper JSON = new ObjectMapper();

    static final Serde<String> KEYS = Serdes.String();

    static final Serde<Object> VALUES = Serdes.serdeFrom(
        (topic, value) -> {
            try {
                return value == null ? null : JSON.writeValueAsBytes(value);
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
        },
        (topic, bytes) -> {
            try {
                return bytes == null ? null : JSON.readValue(bytes, Object.class);
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
        });

    private Values() { }

    /** The sum of two numbers; null where it is 0, so that the row is deleted. */
    static Object add(Object so, Object value) {
        long sum = ((Number) so).longValue() + ((Number) value).longValue();
        return sum == 0 ? null : sum;
    }

    /** All values so far, in order, with commas; the value "!" gives null, so that the row is deleted. */
    static Object append(Object so, Object value) {
        if ("!".equals(value)) {
            return null;
        }
        return so.equals("") ? String.valueOf(value) : so + "," + value;
    }

    /** Two texts of `append` as one. */
    static Object merge(Object one, Object other) {
        if (one.equals("")) {
            return other;
        }
        return other.equals("") ? one : one + "," + other;
    }

    static Object pair(Object left, Object right) {
        return Arrays.asList(left, right);
    }

    /** The first half of "GROUP:AMOUNT"; null for ":AMOUNT", and for null, with which joins ask too. */
    static String group(Object value) {
        if (value == null) {
            return null;
        }
        String group = ((String) value).split(":", 2)[0];
        return group.isEmpty() ? null : group;
    }

    /** The second half, a number. */
    static Object amount(Object value) {
        return Integer.valueOf(((String) value).split(":", 2)[1]);
    }

    static KeyValue<String, Object> grouped(String key, Object value) {
        return KeyValue.pair(group(value), amount(value));
    }

    static List<Object> list(Object... items) {
        return Arrays.asList(items);
    }
}
