/* Counts 200,000 different words twice. WORDCOUNT_LEAK=1 forgets the second count: the gate must notice. */
#include "wordcount.h"

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

static WordCount *count_words(std::size_t words) {
    auto *count = new WordCount;
    for (std::size_t i = 0; i < words; i++)
        count->add("a word that is too long for a small string " + std::to_string(i));
    return count;
}

int main() {
    const bool leak = std::getenv("WORDCOUNT_LEAK") != nullptr;
    for (int round = 0; round < 2; round++) {
        WordCount *count = count_words(200000);
        std::this_thread::sleep_for(std::chrono::milliseconds(300)); /* a reader of the result */
        if (count->words() != 200000 || count->of("nothing") != 0)
            return 1;
        if (!leak || round == 0)
            delete count;
    }
    return 0;
}
