import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Count and sum of one asset's quarter hour; as state and as what is written: start, count, sum, little-endian. */
public class Row {
    public static final int SIZE = 20;

    public String asset;
    public long start;
    public int count;
    public double sum;

    public byte[] bytes() {
        return ByteBuffer.allocate(SIZE).order(ByteOrder.LITTLE_ENDIAN).putLong(start).putInt(count).putDouble(sum).array();
    }

    public static Row of(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        Row row = new Row();
        row.start = buffer.getLong();
        row.count = buffer.getInt();
        row.sum = buffer.getDouble();
        return row;
    }

    public Row plus(double value) {
        count++;
        sum += value;
        return this;
    }
}
