#!/bin/sh
# Trains the three sweeps, 345 runs, about two minutes on two cores, and writes their results as csv files beside this.
# sh benchmarks/questions/sweeps.sh, in the folder of train.py. PYTHON names the Python to use.
set -eu
python=${PYTHON:-python}
sweep() { "$python" train.py -m optimizer=sgd seed.value=0,1,2,3,4 early_stop=none monitor=none "$@"; }

# Is cosine better than step? Three schedules over 15 epochs, each at three inits and three rates, of which 3 diverges.
signals() {
    sweep name=question_schedule data=mnist1d 'model.hidden=[100,100,100]' trainer.max_epochs=15 \
        init=default,orthogonal,kaiming optimizer.lr=0.02,0.1,3 "$@"
}
signals scheduler=constant,cosine
signals scheduler=step scheduler.step_size=5

# Which regularizer, by accuracy? Label smoothing changes the loss, so losses could not be compared.
sweep name=question_regularizer data=digits trainer.max_epochs=20 early_stop.metric=val/accuracy \
    regularizer=none,weight_decay,dropout,label_smoothing init=default,kaiming optimizer.lr=0.03,0.1,1

# How much dropout, by R2 of a regression?
sweep name=question_dropout data=diabetes trainer.max_epochs=40 early_stop.metric=val/r2 regularizer=dropout \
    regularizer.dropout.p=0,0.2,0.5 model.activation=relu,tanh optimizer.lr=0.01,0.1,1

for question in schedule regularizer dropout; do
    "$python" scripts/answer.py outputs/question_$question table=outputs/$question.csv
    cut -d, -f1-6 outputs/$question.csv > benchmarks/questions/$question.csv # what was set, the seed, status, value
done
