"use strict";
(function () {
  // Values under the pointer. What the page says about a curve is set as text, never as markup.
  function number(value) {
    if (value === null) { return "–"; }
    var size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  }
  function nearest(points, x) {
    var found = null;
    points.forEach(function (point) {
      if (point[0] !== null && point[1] !== null && (!found || Math.abs(point[0] - x) < Math.abs(found[0] - x))) {
        found = point;
      }
    });
    return found;
  }
  document.querySelectorAll(".chart").forEach(function (chart) {
    var data = JSON.parse(chart.getAttribute("data-chart"));
    var svg = chart.querySelector("svg");
    var readout = chart.querySelector(".readout");
    var cursor = chart.querySelector(".cursor");
    var left = data.field[0], right = data.field[1], top = data.field[2], bottom = data.field[3];
    function show(event) {
      var box = svg.getBoundingClientRect();
      var place = (event.clientX - box.left) / box.width * data.width;
      var x = data.x[0] + (place - left) / (right - left) * (data.x[1] - data.x[0]);
      var said = [], at = null;
      data.series.forEach(function (series) {
        var point = nearest(series.points, x);
        if (!point) { return; }
        if (at === null || Math.abs(point[0] - x) < Math.abs(at - x)) { at = point[0]; }
        said.push([series.name, point]);
      });
      if (at === null) { return; }
      said = said.map(function (of) {
        return of[0] + " " + number(of[1][1]) + (of[1][0] === at ? "" : " (at " + number(of[1][0]) + ")");
      });
      var cx = left + (at - data.x[0]) / (data.x[1] - data.x[0]) * (right - left);
      cursor.setAttribute("d", "M" + cx.toFixed(1) + " " + top + "V" + bottom);
      readout.textContent = data.unit + " " + number(at) + ": " + said.join(", ");
    }
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", function () {
      cursor.setAttribute("d", "");
      readout.textContent = "\u00a0";
    });
  });
  // One slice of a plane at a time.
  document.querySelectorAll(".plane").forEach(function (plane) {
    var slider = plane.querySelector("input");
    var slices = plane.querySelectorAll(".slice");
    var number = plane.querySelector(".number");
    if (!slider) { return; }
    slider.addEventListener("input", function () {
      slices.forEach(function (slice, at) {
        if (at === Number(slider.value)) { slice.removeAttribute("hidden"); } else { slice.setAttribute("hidden", ""); }
      });
      number.textContent = slices[Number(slider.value)].getAttribute("data-at");
    });
  });
  document.querySelectorAll(".layers input").forEach(function (box) {
    box.addEventListener("change", function () {
      document.getElementById("pictures").classList.toggle("without-" + box.name, !box.checked);
    });
  });
}());
