import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import kafka.tools.StorageTool;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.metadata.ConfigRecord;
import org.apache.kafka.common.metadata.PartitionRecord;
import org.apache.kafka.common.metadata.TopicRecord;
import org.apache.kafka.metadata.bootstrap.BootstrapDirectory;
import org.apache.kafka.metadata.bootstrap.BootstrapMetadata;
import org.apache.kafka.server.common.ApiMessageAndVersion;

/**
 * Makes a partition directory that Kafka has never seen into a topic of a broker that has never run.
 *
 * <p>Arguments: server.properties, the root directory, topic, topic id, leader epoch, then topic settings as name=value.
 * The root is formatted as for a new one-node cluster. The records of the topic are added to those that the controller
 * replays when it becomes active for the first time, so the topic exists from then on, under the id that its
 * partition.metadata names.
 */
public final class Adopt {
    private static final short TOPIC_RECORD = 0;
    private static final short PARTITION_RECORD = 1;
    private static final short CONFIG_RECORD = 0;
    private static final byte A_TOPIC_CONFIG = 2;

    public static void main(String[] args) throws Exception {
        String properties = args[0];
        String root = args[1];
        String topic = args[2];
        Uuid topicId = Uuid.fromString(args[3]);
        int leaderEpoch = Integer.parseInt(args[4]);

        String[] format = {"format", "-t", Uuid.randomUuid().toString(), "-c", properties};
        if (StorageTool.execute(format, System.err) != 0) {
            throw new IllegalStateException("StorageTool did not format " + root);
        }

        BootstrapDirectory bootstrap = new BootstrapDirectory(root);
        List<ApiMessageAndVersion> records = new ArrayList<>(bootstrap.read().records());
        TopicRecord named = new TopicRecord().setName(topic).setTopicId(topicId);
        records.add(new ApiMessageAndVersion(named, TOPIC_RECORD));
        PartitionRecord partition = new PartitionRecord()
            .setPartitionId(0)
            .setTopicId(topicId)
            .setReplicas(List.of(1))
            .setIsr(List.of(1))
            .setLeader(1)
            .setLeaderEpoch(leaderEpoch)
            .setPartitionEpoch(0)
            .setDirectories(List.of(directoryId(Path.of(root))));
        records.add(new ApiMessageAndVersion(partition, PARTITION_RECORD));
        // The broker registers as one that did not stop in order and leaves the in-sync set: without this nobody is
        // ever elected.
        records.add(config(topic, "unclean.leader.election.enable", "true"));
        for (int i = 5; i < args.length; i++) {
            String[] setting = args[i].split("=", 2);
            records.add(config(topic, setting[0], setting[1]));
        }
        Files.delete(Path.of(root, BootstrapDirectory.BINARY_BOOTSTRAP_FILENAME));
        bootstrap.writeBinaryFile(BootstrapMetadata.fromRecords(records, "oncelog interop"));
    }

    private static ApiMessageAndVersion config(String topic, String name, String value) {
        ConfigRecord record = new ConfigRecord()
            .setResourceType(A_TOPIC_CONFIG)
            .setResourceName(topic)
            .setName(name)
            .setValue(value);
        return new ApiMessageAndVersion(record, CONFIG_RECORD);
    }

    /** The id that formatting gave to the root. */
    private static Uuid directoryId(Path root) throws Exception {
        String key = "directory.id=";
        for (String line : Files.readAllLines(root.resolve("meta.properties"))) {
            if (line.startsWith(key)) {
                return Uuid.fromString(line.substring(key.length()).replace("\\", ""));
            }
        }
        throw new IllegalStateException("meta.properties names no directory.id");
    }
}
