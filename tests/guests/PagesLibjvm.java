// The Java machine's own text holds no system call, and is its file's, byte by byte, after it has compiled, collected and
// thrown.
//@ build: javac -d $OUT PagesLibjvm.java
//@ run: java -Xmx64m -cp $OUT PagesLibjvm
//@ seconds: 180
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;

public class PagesLibjvm {
    static final int PAGE = 4096;

    static void use() throws Exception {
        long sum = 0;
        var kept = new ArrayList<byte[]>();
        for (int round = 0; round < 20000; round++) {
            kept.add(new byte[round % 5000]);
            if (kept.size() > 100) kept.clear();
            try {
                if (round % 100 == 0) throw new IllegalStateException();
            } catch (IllegalStateException e) {
                sum += e.getStackTrace().length;
            }
            for (int at = 0; at < 1000; at++) sum += at % 7 * round;
        }
        MessageDigest.getInstance("SHA-512").digest(("" + sum).getBytes());
        System.gc();
    }

    /** Whether the file's page holds the bytes of a system call, or one may begin in its last byte. */
    static boolean hasHit(byte[] page) {
        for (int at = 0; at < PAGE; at++) if (page[at] == 0x0f && (at + 1 == PAGE || page[at + 1] == 5)) return true;
        return false;
    }

    public static void main(String[] arguments) throws Exception {
        use();
        int pages = 0, changed = 0, hits = 0;
        try (var memory = new RandomAccessFile("/proc/self/mem", "r")) {
            for (String line : Files.readAllLines(Path.of("/proc/self/maps"))) {
                String[] fields = line.split("\\s+");
                if (fields.length < 6 || !fields[5].endsWith("/libjvm.so") || !fields[1].contains("x")) continue;
                String[] ends = fields[0].split("-");
                long start = Long.parseLong(ends[0], 16), end = Long.parseLong(ends[1], 16);
                try (var file = new RandomAccessFile(fields[5], "r")) {
                    byte[] loaded = new byte[PAGE], stored = new byte[PAGE];
                    for (long at = start; at < end; at += PAGE) {
                        memory.seek(at);
                        memory.readFully(loaded);
                        file.seek(Long.parseLong(fields[2], 16) + at - start);
                        int len = file.read(stored);
                        Arrays.fill(stored, Math.max(len, 0), PAGE, (byte) 0);
                        pages++;
                        if (hasHit(stored)) hits++;
                        if (!Arrays.equals(loaded, stored)) changed++;
                    }
                }
            }
        }
        if (pages < 1000 || hits == 0) throw new AssertionError(pages + " pages, " + hits + " with hits");
        System.out.println(changed + " pages differ");
        System.out.println("ok");
    }
}
