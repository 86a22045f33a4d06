#include "harness/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace graftfs::bench {
namespace {

constexpr double kWidth = 460, kHeight = 340;  // of a panel
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 46;
constexpr const char* kColors[] = {"#1f5fa8", "#c4442b", "#2d8650", "#7a4fa3"};

std::string text(double x, double y, const char* anchor, const std::string& what,
                 const std::string& more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, what);
}

std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1,
                     x2, y2, style);
}

// 1,200,000 as 1.2M.
std::string short_number(double v) {
  if (v >= 1e6) return fmt::format("{:g}M", v / 1e6);
  if (v >= 1e3) return fmt::format("{:g}k", v / 1e3);
  return fmt::format("{:g}", v);
}

// A step that gives about five marks.
double step_for(double most) {
  const double ten = std::pow(10, std::floor(std::log10(most / 4)));
  for (double step : {1.0, 2.0, 2.5, 5.0, 10.0})
    if (most / (step * ten) <= 6) return step * ten;
  return 10 * ten;
}

class Drawing {
 public:
  Drawing(const Panel& panel, double offset) : panel_(panel), offset_(offset) {
    double least_y = HUGE_VAL, most_y = 0;
    for (const Series& series : panel.series) {
      for (auto [x, y] : series.points) {
        least_x_ = std::min(least_x_, x);
        most_x_ = std::max(most_x_, x);
        least_y = std::min(least_y, y);
        most_y = std::max(most_y, y);
      }
    }
    if (panel.log_y) {
      low_ = std::floor(std::log10(least_y));
      high_ = std::max(low_ + 1, std::ceil(std::log10(most_y)));
    } else {
      high_ = most_y * 1.08;
    }
  }

  std::string draw() const {
    std::string out =
        text(offset_ + kWidth / 2, 18, "middle", panel_.title, " font-weight=\"bold\"");
    out += axes();
    for (size_t i = 0; i < panel_.series.size(); ++i) out += series(i);
    return out;
  }

 private:
  double x(double v) const {
    const double span = std::max(1.0, std::log2(most_x_ / least_x_));
    return offset_ + kLeft + std::log2(v / least_x_) / span * (kWidth - kLeft - kRight);
  }
  double y(double v) const {
    const double at = panel_.log_y ? (std::log10(v) - low_) / (high_ - low_) : v / high_;
    return kHeight - kBottom - at * (kHeight - kTop - kBottom);
  }

  std::string mark(double v) const {
    return line(offset_ + kLeft, y(v), offset_ + kWidth - kRight, y(v), "stroke=\"#ddd\"") +
           text(offset_ + kLeft - 6, y(v) + 4, "end", short_number(v));
  }

  std::string axes() const {
    std::string out;
    if (panel_.log_y) {
      for (double e = low_; e <= high_; ++e) out += mark(std::pow(10, e));
    } else {
      const double step = step_for(high_);
      for (double v = 0; v <= high_; v += step) out += mark(v);
    }
    for (double v = least_x_; v <= most_x_; v *= 2)
      out += text(x(v), kHeight - kBottom + 16, "middle", fmt::format("{:g}", v));
    out += line(offset_ + kLeft, kHeight - kBottom, offset_ + kWidth - kRight, kHeight - kBottom,
                "stroke=\"#444\"");
    out += text(offset_ + (kLeft + kWidth - kRight) / 2, kHeight - 10, "middle", panel_.x);
    const double middle = (kTop + kHeight - kBottom) / 2;
    out += text(offset_ + 14, middle, "middle", panel_.y,
                fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", offset_ + 14, middle));
    return out;
  }

  std::string series(size_t number) const {
    const Series& s = panel_.series[number];
    const char* color = s.reference ? "#888" : kColors[number % std::size(kColors)];
    std::string points, out;
    for (auto [px, py] : s.points) {
      points += fmt::format("{:.1f},{:.1f} ", x(px), y(py));
      if (!s.reference)
        out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x(px),
                           y(py), color);
    }
    out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\"{}/>\n", points, color,
                       s.reference ? " stroke-dasharray=\"5 4\"" : " stroke-width=\"2\"");
    return out + legend(number, color, s.reference);
  }

  // Down on the right, where lines that grow or stay high leave room.
  std::string legend(size_t number, const char* color, bool dashed) const {
    const double right = offset_ + kWidth - kRight - 8;
    const double at =
        kHeight - kBottom - 14 - 16 * static_cast<double>(panel_.series.size() - 1 - number);
    return line(right - 24, at - 4, right, at - 4,
                fmt::format("stroke=\"{}\"{}", color,
                            dashed ? " stroke-dasharray=\"5 4\"" : " stroke-width=\"2\"")) +
           text(right - 30, at, "end", panel_.series[number].name);
  }

  const Panel& panel_;
  const double offset_;
  double least_x_ = HUGE_VAL, most_x_ = 0;
  double low_ = 0, high_ = 1;  // of y; powers of ten where that is its scale
};

}  // namespace

std::string svg_of(const std::vector<Panel>& panels) {
  const double width = kWidth * static_cast<double>(panels.size());
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" viewBox=\"0 0 "
      "{0:g} {1:g}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" "
      "height=\"100%\" fill=\"white\"/>\n",
      width, kHeight);
  for (size_t i = 0; i < panels.size(); ++i)
    out += Drawing(panels[i], static_cast<double>(i) * kWidth).draw();
  return out + "</svg>\n";
}

}  // namespace graftfs::bench
