/* Calls a kernel on so many threads, with the memory that a file holds: see on_aarch64.py.

   The file: how many words the record has, and each; how many pieces of memory there are, and of
   each its address in the process that wrote it, its size and its bytes. A word that is an address
   in a piece is made one in this process. Behind each piece lies a page that nobody may touch. The
   pieces' bytes after the call go to another file. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern void kernel(int64_t *record) __asm__(KERNEL);

static __thread int number;
static int team;
static int64_t record[256];

int omp_get_thread_num(void) { return number; }
int omp_get_num_threads(void) { return team; }

static void *call(void *which) {
    number = (int)(intptr_t)which;
    kernel(record);
    return NULL;
}

static void need(int holds, const char *what) {
    if (!holds) {
        perror(what);
        exit(1);
    }
}

static int64_t word_from(FILE *file) {
    int64_t word;
    need(fread(&word, sizeof word, 1, file) == 1, "a word");
    return word;
}

/* So many bytes before a page that nobody may touch, as far from a cache line's beginning as at. */
static char *guarded(int64_t size, int64_t at) {
    const int64_t page = 65536, line = 64;
    int64_t whole = (size + line + page - 1) / page * page;
    char *begin = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(begin != MAP_FAILED && !mprotect(begin + whole, page, PROT_NONE), "memory");
    int64_t behind = ((-(at + size)) % line + line) % line;
    return begin + whole - behind - size;
}

int main(int count, char **arguments) {
    need(count == 4, "INPUT OUTPUT THREADS");
    team = atoi(arguments[3]);
    FILE *input = fopen(arguments[1], "rb");
    need(input != NULL, arguments[1]);
    int64_t words = word_from(input);
    need(words <= 256, "a smaller record");
    for (int64_t i = 0; i < words; i++) record[i] = word_from(input);
    int64_t pieces = word_from(input);
    char **memory = calloc(pieces, sizeof *memory);
    int64_t *sizes = calloc(pieces, sizeof *sizes);
    char moved[256] = {0};
    for (int64_t i = 0; i < pieces; i++) {
        int64_t address = word_from(input);
        sizes[i] = word_from(input);
        memory[i] = guarded(sizes[i], address);
        need(fread(memory[i], 1, sizes[i], input) == (size_t)sizes[i], "a piece of memory");
        for (int64_t j = 0; j < words; j++)
            if (!moved[j] && record[j] >= address && record[j] < address + sizes[i]) {
                record[j] += (int64_t)(intptr_t)memory[i] - address;
                moved[j] = 1;
            }
    }
    pthread_t threads[64];
    for (intptr_t i = 1; i < team; i++)
        need(!pthread_create(&threads[i], NULL, call, (void *)i), "a thread");
    call((void *)0);
    for (int i = 1; i < team; i++) pthread_join(threads[i], NULL);
    FILE *output = fopen(arguments[2], "wb");
    need(output != NULL, arguments[2]);
    for (int64_t i = 0; i < pieces; i++)
        need(fwrite(memory[i], 1, sizes[i], output) == (size_t)sizes[i], "to write");
    need(!fclose(output), "to close");
    return 0;
}
