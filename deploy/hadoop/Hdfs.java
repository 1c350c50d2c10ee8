import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** HDFS in one process: Hdfs DIR RPC_PORT WEB_PORT [NODES]. Ends with the process. */
public class Hdfs {
  public static void main(String[] args) throws Exception {
    File dir = new File(args[0]);
    Configuration conf = new Configuration();
    conf.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, dir.getAbsolutePath());
    conf.setBoolean("dfs.permissions.enabled", false);
    conf.setBoolean("dfs.webhdfs.enabled", true);
    conf.setInt("dfs.namenode.fs-limits.min-block-size", 1 << 20);
    conf.setInt("dfs.namenode.safemode.extension", 0);
    conf.setInt("dfs.replication", 1);
    new MiniDFSCluster.Builder(conf)
        .numDataNodes(args.length > 3 ? Integer.parseInt(args[3]) : 1)
        .nameNodePort(Integer.parseInt(args[1]))
        .nameNodeHttpPort(Integer.parseInt(args[2]))
        .format(!new File(dir, "name-0-1").exists())
        .build()
        .waitActive();
    System.out.println("HDFS serves");
    Thread.sleep(Long.MAX_VALUE);
  }
}
