// The JVM stops its threads by faults on a page, finds null pointers by faults, and interrupts blocked ones by signals; here
// all of that at once, with garbage to collect.
//@ build: javac -d $OUT SignalThreads.java
//@ run: java -Xmx64m -cp $OUT SignalThreads
//@ seconds: 120
import java.io.FileInputStream;
import java.util.ArrayList;
import java.util.List;

public class SignalThreads {
    static final class Node {
        Node next;
        int value;
    }

    static int nulls(int rounds) {
        int caught = 0;
        Node[] nodes = {new Node(), null};
        for (int at = 0; at < rounds; at++) {
            try {
                nodes[at % 100 == 0 ? 1 : 0].value++;
            } catch (NullPointerException expected) {
                caught++;
            }
        }
        return caught;
    }

    static long garbage(int rounds) {
        long sum = 0;
        Node list = null;
        for (int at = 0; at < rounds; at++) {
            Node node = new Node();
            node.value = at;
            node.next = at % 1000 == 0 ? null : list;
            list = node;
            sum += list.value;
        }
        return sum;
    }

    static int deep(int depth) {
        return depth == 0 ? 0 : 1 + deep(depth - 1);
    }

    static int overflows() {
        int caught = 0;
        for (int at = 0; at < 20; at++) {
            try {
                deep(Integer.MAX_VALUE);
            } catch (StackOverflowError expected) {
                caught++;
            }
        }
        return caught;
    }

    static long files(int rounds) throws Exception {
        long sum = 0;
        byte[] block = new byte[64];
        for (int at = 0; at < rounds; at++) {
            try (FileInputStream file = new FileInputStream("/dev/zero")) {
                sum += file.read(block);
            }
        }
        return sum;
    }

    static String interrupted() throws Exception {
        int count = 0;
        for (int at = 0; at < 50; at++) {
            boolean[] seen = {false};
            Thread sleeper = new Thread(() -> {
                try {
                    Thread.sleep(1_000_000);
                } catch (InterruptedException expected) {
                    seen[0] = true;
                }
            });
            sleeper.start();
            sleeper.interrupt();
            sleeper.join();
            count += seen[0] ? 1 : 0;
        }
        return "interrupted " + count;
    }

    interface Task {
        Object run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Task[] tasks = {() -> nulls(2_000_000), () -> garbage(5_000_000), () -> overflows(), () -> files(3000), () -> interrupted(),
            () -> nulls(3_000_000), () -> garbage(4_000_000)};
        String[] results = new String[tasks.length];
        List<Thread> threads = new ArrayList<>();
        for (int at = 0; at < tasks.length; at++) {
            int number = at;
            threads.add(new Thread(() -> {
                try {
                    results[number] = String.valueOf(tasks[number].run());
                } catch (Exception error) {
                    results[number] = error.toString();
                }
            }));
        }
        for (Thread thread : threads) thread.start();
        for (Thread thread : threads) thread.join();
        for (String result : results) System.out.println(result);
        System.out.println("ok");
    }
}
