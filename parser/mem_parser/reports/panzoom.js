// Pan by dragging, zoom by wheel, pinch, + and -; double click or 0 shows everything again.
(function () {
  "use strict";
  var svg = document.documentElement;
  var box = svg.viewBox.baseVal;
  var home = [box.x, box.y, box.width, box.height];
  var pointers = new Map();

  function show(x, y, width, height) {
    svg.setAttribute("viewBox", [x, y, width, height].join(" "));
  }
  function place(event) {
    var point = new DOMPoint(event.clientX, event.clientY);
    return point.matrixTransform(svg.getScreenCTM().inverse());
  }
  function zoom(centre, factor) {
    var width = box.width * factor;
    if (width > home[2] * 20 || width < home[2] / 2000) {
      return;
    }
    show(centre.x - (centre.x - box.x) * factor, centre.y - (centre.y - box.y) * factor,
      width, box.height * factor);
  }
  function distance() {
    var two = Array.from(pointers.values());
    return Math.hypot(two[0].clientX - two[1].clientX, two[0].clientY - two[1].clientY);
  }

  svg.style.cursor = "grab";
  svg.style.touchAction = "none";
  svg.style.userSelect = "none";
  svg.addEventListener("wheel", function (event) {
    event.preventDefault();
    zoom(place(event), Math.exp(Math.max(-1, Math.min(1, event.deltaY / 400))));
  }, { passive: false });
  svg.addEventListener("pointerdown", function (event) {
    pointers.set(event.pointerId, event);
    try {
      svg.setPointerCapture(event.pointerId);
    } catch (error) {
      // A pointer made by a script has nothing to capture; dragging works without.
    }
    svg.style.cursor = "grabbing";
  });
  svg.addEventListener("pointermove", function (event) {
    var before = pointers.get(event.pointerId);
    if (!before) {
      return;
    }
    if (pointers.size === 2) {
      var old = distance();
      pointers.set(event.pointerId, event);
      zoom(place(event), old / Math.max(distance(), 1));
      return;
    }
    var from = place(before);
    var to = place(event);
    pointers.set(event.pointerId, event);
    show(box.x - (to.x - from.x), box.y - (to.y - from.y), box.width, box.height);
  });
  function release(event) {
    pointers.delete(event.pointerId);
    svg.style.cursor = "grab";
  }
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  svg.addEventListener("dblclick", function () {
    show.apply(null, home);
  });
  // Paper gets all of it, whatever part is on the screen.
  var left = home;
  window.addEventListener("beforeprint", function () {
    left = [box.x, box.y, box.width, box.height];
    show.apply(null, home);
  });
  window.addEventListener("afterprint", function () {
    show.apply(null, left);
  });
  window.addEventListener("keydown", function (event) {
    var middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    if (event.key === "+" || event.key === "=") {
      zoom(middle, 1 / 1.25);
    } else if (event.key === "-") {
      zoom(middle, 1.25);
    } else if (event.key === "0") {
      show.apply(null, home);
    }
  });
})();
