// Loops that the second compiler compiles while they run, in four threads, with strings and a collection of garbage.
//@ build: javac -d $OUT JitLoop.java
//@ run: java -Xmx128m -cp $OUT JitLoop
//@ modes: plain summary exhaustive
//@ seconds: 120
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;

public class JitLoop {
    static long mix(long x) {
        x ^= x << 13;
        x ^= x >>> 7;
        return x ^ (x << 17);
    }

    static long sum(long seed, int rounds) {
        long x = seed, sum = 0;
        for (int round = 0; round < rounds; round++) {
            x = mix(x);
            sum += x & 1023;
        }
        return sum;
    }

    public static void main(String[] args) throws InterruptedException {
        long[] sums = new long[4];
        Thread[] threads = new Thread[sums.length];
        for (int index = 0; index < threads.length; index++) {
            int own = index;
            threads[index] = new Thread(() -> sums[own] = sum(88172645463325252L + own, 20_000_000));
            threads[index].start();
        }
        Map<String, Integer> words = new TreeMap<>();
        for (int number = 0; number < 200_000; number++) words.merge("w" + (mix(number) & 63), 1, Integer::sum);
        for (Thread thread : threads) thread.join();
        System.gc();
        System.out.println(Arrays.toString(sums) + " " + words);
        System.out.println("ok");
    }
}
