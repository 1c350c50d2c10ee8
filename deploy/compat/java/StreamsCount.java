import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;

/**
 * A Kafka Streams application with exactly_once_v2: it copies topic IN to COPY,
 * and counts its records by key in windows of ten seconds of event time to
 * COUNTS, keyed KEY@WINDOW_START. It prints its state at each change and ends
 * when its standard input does.
 *
 * Arguments: BOOTSTRAP STATE_DIR GROUP_PROTOCOL IN COPY COUNTS
 */
public class StreamsCount {
  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-count");
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    p.put(StreamsConfig.STATE_DIR_CONFIG, args[1]);
    p.put(StreamsConfig.GROUP_PROTOCOL_CONFIG, args[2]);
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    p.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    p.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    p.put("consumer.auto.offset.reset", "earliest");
    p.put("transaction.timeout.ms", 10000);

    StreamsBuilder b = new StreamsBuilder();
    var in = b.stream(args[3], Consumed.with(Serdes.String(), Serdes.String()));
    in.to(args[4]);
    in.groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
        .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10)))
        .count()
        .toStream((w, n) -> w.key() + "@" + w.window().start())
        .mapValues(String::valueOf)
        .to(args[5], Produced.with(Serdes.String(), Serdes.String()));

    KafkaStreams streams = new KafkaStreams(b.build(), p);
    CountDownLatch failed = new CountDownLatch(1);
    streams.setStateListener((now, before) -> {
      System.out.println("state " + now);
      if (now == KafkaStreams.State.ERROR) {
        failed.countDown();
      }
    });
    streams.setUncaughtExceptionHandler(e -> {
      System.out.println("thread ended: " + e);
      return StreamThreadExceptionResponse.REPLACE_THREAD;
    });
    streams.start();
    Thread input = new Thread(() -> {
      try {
        while (System.in.read() >= 0) {}
      } catch (java.io.IOException e) {
        System.out.println("input: " + e);
      }
      failed.countDown();
    });
    input.setDaemon(true);
    input.start();
    failed.await();
    streams.close(Duration.ofSeconds(20));
    System.out.println("closed");
    System.exit(0);
  }
}
