/* wordcount.h - how often each word was seen. */
#ifndef WORDCOUNT_H
#define WORDCOUNT_H

#include <cstddef>
#include <map>
#include <string>

class WordCount {
  public:
    void add(const std::string &word);
    std::size_t of(const std::string &word) const;
    std::size_t words() const;

  private:
    std::map<std::string, std::size_t> counts_;
};

#endif
