"""Settings that many optimizers share: their types, limits and descriptions."""

from typing import Annotated

from pydantic import Field

Beta = Annotated[float, Field(ge=0, lt=1)]

Betas = Annotated[
    tuple[Beta, Beta],
    Field(description="How slowly the averages of the gradient and of its square change."),
]
ThreeBetas = Annotated[
    tuple[Beta, Beta, Beta],
    Field(description="How slowly the optimizer's three averages change."),
]
Momentum = Annotated[Beta, Field(description="How slowly the average of the gradient changes.")]
Dampening = Annotated[
    float, Field(ge=0, lt=1, description="A gradient enters the momentum less by this share.")
]
Nesterov = Annotated[bool, Field(description="Look ahead along the momentum (Nesterov).")]
Eps = Annotated[float, Field(gt=0, description="Keeps divisions by small numbers tame.")]
Decay = Annotated[
    float, Field(ge=0, description="Each step shrinks weights by this times the learning rate.")
]
Penalty = Annotated[
    float, Field(ge=0, description="This times the weights is added to their gradient (L2).")
]
Decouple = Annotated[
    bool, Field(description="Shrink the weights by weight_decay, not their gradient's size.")
]
Rectify = Annotated[
    bool, Field(description="Hold back the first steps, whose averages are unsure (RAdam).")
]
AmsGrad = Annotated[
    bool, Field(description="Divide by the largest average so far, not the present one.")
]
FirstDistance = Annotated[
    float, Field(gt=0, description="First guess of how far the weights have to go.")
]
Growth = Annotated[
    float | None,
    Field(gt=1, description="The guess grows by at most this factor per step; default: no limit."),
]
AveragePower = Annotated[
    float, Field(ge=0, description="Later steps count more in the averaged weights, by this power.")
]
RatePower = Annotated[
    float, Field(ge=0, description="Steps count in the averaged weights by their rate to this.")
]
