// SPDX-License-Identifier: Apache-2.0

import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.DiscardingSink;
import org.apache.flink.streaming.api.functions.source.SourceFunction;

/** A streaming job without Beam that counts for ever, and keeps its count in checkpoints. */
public class Counting {
  public static void main(String[] args) throws Exception {
    StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
    env.enableCheckpointing(500);
    env.addSource(new Source()).uid("count").addSink(new DiscardingSink<>());
    env.execute(args[0]);
  }

  private static class Source implements SourceFunction<Long>, CheckpointedFunction {
    private volatile boolean running = true;
    private long count;
    private ListState<Long> state;

    @Override
    public void run(SourceContext<Long> out) throws Exception {
      while (running) {
        synchronized (out.getCheckpointLock()) {
          out.collect(count++);
        }
        Thread.sleep(10);
      }
    }

    @Override
    public void cancel() {
      running = false;
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
      state = context.getOperatorStateStore().getListState(new ListStateDescriptor<>("count", Long.class));
      for (Long n : state.get()) {
        count = n;
      }
      // Where the count begins, in the TaskManager's log.
      System.out.println("counting from " + count);
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
      state.update(java.util.List.of(count));
    }
  }
}
