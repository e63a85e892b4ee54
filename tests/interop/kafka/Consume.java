import java.io.BufferedWriter;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Says what Kafka's own consumer reads from partition 0 of a topic, once for each isolation level.
 *
 * <p>Arguments: bootstrap server, topic. Lines: "isolation LEVEL START END", then one "record OFFSET TIMESTAMP KEY VALUE
 * HEADERS" each, where bytes stand as LENGTH:CRC-32C (null: "-") and headers as one such pair over all names and values.
 */
public final class Consume {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] args) {
        PrintWriter out = new PrintWriter(new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8)));
        for (String level : List.of("read_uncommitted", "read_committed")) {
            consume(out, args[0], new TopicPartition(args[1], 0), level);
        }
        out.println("done");
        out.flush();
        // Not exit: nothing is left to be closed, and the client's threads take their time.
        Runtime.getRuntime().halt(out.checkError() ? 1 : 0);
    }

    private static void consume(PrintWriter out, String server, TopicPartition partition, String level) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", server);
        settings.put("isolation.level", level);
        settings.put("enable.auto.commit", "false");
        settings.put("check.crcs", "true");
        settings.put("auto.offset.reset", "none");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> one = List.of(partition);
            consumer.assign(one);
            long start = consumer.beginningOffsets(one, PATIENCE).get(partition);
            long end = consumer.endOffsets(one, PATIENCE).get(partition);
            out.printf("isolation %s %d %d%n", level, start, end);
            consumer.seek(partition, start);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (consumer.position(partition) < end) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("stuck at " + consumer.position(partition) + " of " + end);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    out.printf("record %d %d %s %s %s%n", record.offset(), record.timestamp(), sum(record.key()),
                        sum(record.value()), headers(record));
                }
            }
        }
    }

    private static String sum(byte[] bytes) {
        if (bytes == null) {
            return "-";
        }
        CRC32C crc = new CRC32C();
        crc.update(bytes);
        return bytes.length + ":" + crc.getValue();
    }

    private static String headers(ConsumerRecord<byte[], byte[]> record) {
        CRC32C crc = new CRC32C();
        int length = 0;
        for (Header header : record.headers()) {
            byte[] name = header.key().getBytes(StandardCharsets.UTF_8);
            crc.update(name);
            length += name.length;
            if (header.value() != null) {
                crc.update(header.value());
                length += header.value().length;
            }
        }
        return length + ":" + crc.getValue();
    }
}
