#include "wordcount.h"

void WordCount::add(const std::string &word) {
    ++counts_[word];
}

std::size_t WordCount::of(const std::string &word) const {
    auto found = counts_.find(word);
    return found == counts_.end() ? 0 : found->second;
}

std::size_t WordCount::words() const {
    return counts_.size();
}
